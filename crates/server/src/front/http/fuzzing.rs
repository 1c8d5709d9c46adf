//! The body of the fuzz target `http_login`: whatever is sent as the body of a login's requests.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use countersign::{Answer, CredentialKind, Known, Question, Round, Text};

use super::answers::{AnswerMap, LoginRequest, RoundAnswers};
use super::json;
use super::view::RoundView;

/// Reads `data` as both bodies. What is accepted keeps its limits; its answers meet a round without a
/// panic, are used at most once, and never say yes for a text.
pub fn login_request(data: &[u8]) {
    if let Ok(request) = json::parse::<LoginRequest>(data)
        && request.check().is_ok()
    {
        assert!(!request.service.is_empty() && request.service.len() <= 255);
        assert!(request.supports.iter().flatten().count() <= 64);
        let _ = request.kinds();
        answered(&request.answers);
    }
    if let Ok(request) = json::parse::<RoundAnswers>(data) {
        answered(&request.answers);
    }
    // What we say, we can read.
    if let Ok(view) = json::parse::<RoundView>(data) {
        let text = serde_json::to_vec(&view).unwrap_or_default();
        assert_eq!(json::parse::<RoundView>(&text).ok(), Some(view));
    }
}

fn answered(AnswerMap(answers): &AnswerMap) {
    static ROUND: LazyLock<Round> = LazyLock::new(|| {
        let mut choice = Question::new("choice", CredentialKind::Choice, Text::default());
        choice.options = vec![Text::verbatim("a"), Text::verbatim("b")];
        Round::of([
            Question::username(),
            Question::password(),
            choice.optional(),
            Question::new("trust", CredentialKind::Trust, Text::default()).optional(),
        ])
    });
    let names: Vec<_> = answers.iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two answers of one name");
    assert!(names.len() <= 64);
    let mut known = Known::new(answers.clone());
    if let Some(picked) = known.pick(&ROUND) {
        assert!(matches!(picked.find("password"), Some(Answer::Value(_) | Answer::Declined)));
        assert!(!matches!(picked.find("trust"), Some(Answer::Value(_))));
        assert!(known.pick(&ROUND).is_none(), "an answer was given twice");
    }
}
