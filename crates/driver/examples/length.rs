//! A driver that stays: the right password has as many characters as are stored for the user, and a second question
//! asks how many, where somebody can be asked.

use countersign_driver::{Answer, Login, Question, serve};

fn main() -> std::io::Result<()> {
    serve(|login| verify(login).unwrap_or_else(Answer::from))
}

fn verify(login: &Login<'_>) -> Result<Answer, countersign_driver::Cancelled> {
    let length = login.secret.chars().count().to_string();
    if login.stored.as_deref() != Some(&length) {
        return Ok(Answer::refuse("wrong length"));
    }
    if !login.can_ask("echo-prompt") {
        return Ok(Answer::accept());
    }
    let answers = login.ask(&[Question::new("length", "echo-prompt", "How many characters")])?;
    Ok(match answers.text("length") == Some(&length) {
        true => Answer::accept(),
        false => Answer::refuse("counted wrong"),
    })
}
