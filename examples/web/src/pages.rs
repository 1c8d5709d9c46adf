//! The pages. They know a logged-in user, and nothing about how that was proven.

use axum::Form;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use countersign_http::{User, escaped};
use serde::Deserialize;

use crate::realm::Pages;

/// `/`, for everybody.
pub(crate) async fn home() -> Html<&'static str> {
    Html(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Notebooks</title>\n\
         <h1>Notebooks</h1>\n<ul>\n<li><a href=\"/me\">yours</a>, with a form and a cookie\n\
         <li><a href=\"/basic\">by Basic</a>\n<li><a href=\"/digest\">by Digest</a>\n\
         <li><a href=\"/bearer\">by a token</a>\n</ul></html>\n",
    )
}

/// `/basic`, `/digest`, `/bearer`: a notebook as text, by how its owner has got in.
pub(crate) async fn text(user: User<Pages>) -> String {
    let proofs: Vec<&str> = user.who().proofs().collect();
    let mut text = format!("{} by {}\n", user.owner(), proofs.join(" and "));
    for note in user.notes() {
        text += &format!("- {note}\n");
    }
    text
}

/// A note, in the form of the page `/me` or of any program.
#[derive(Deserialize)]
pub(crate) struct Note {
    note: String,
}

/// Writes a note, as a program does.
pub(crate) async fn write(user: User<Pages>, Form(Note { note }): Form<Note>) -> StatusCode {
    match user.write(&note) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// `/me`, for people.
pub(crate) async fn me(user: User<Pages>) -> Html<String> {
    let notes: String =
        user.notes().iter().map(|note| format!("<li>{}\n", escaped(note))).collect();
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{owner}</title>\n\
         <h1>{owner}</h1>\n<ul>\n{notes}</ul>\n\
         <form method=\"post\" action=\"/me\"><label>Note <input name=\"note\" required></label>\n\
         <button id=\"write\">Write</button></form>\n\
         <form method=\"post\" action=\"/logout\"><button id=\"logout\">Log out</button></form>\n\
         </html>\n",
        owner = escaped(user.owner()),
    ))
}

/// `POST /me`: writes a note and shows the page again.
pub(crate) async fn write_and_show(user: User<Pages>, Form(Note { note }): Form<Note>) -> Response {
    match user.write(&note) {
        true => Redirect::to("/me").into_response(),
        false => (StatusCode::UNPROCESSABLE_ENTITY, "no room for that\n").into_response(),
    }
}

/// For paths that the layer answers by itself.
pub(crate) async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}
