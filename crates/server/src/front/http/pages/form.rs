//! What a form sends: fields of the page, and answers by question.
//!
//! The name of an answer's field says what the field is, so that a body can be read without its round: a
//! form that is sent twice is the same answers twice, also when its login is over. What a client makes of
//! the names is its own affair; the core checks every answer against the open round.

use std::borrow::Cow;

use countersign::{Answer, Answers, Secret};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use super::super::problem::Problem;

/// No form of ours has more fields.
const FIELDS: usize = 128;
/// Bytes of the name of a field, decoded.
const NAME_BYTES: usize = 300;

/// The fields of a form, each once.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, Secret)>);

/// What is chosen in a field, which its name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text, possibly empty.
    Value,
    /// A text; empty: no answer.
    Optional,
    /// A code that people type with gaps; empty: no answer.
    Code,
    /// The same question in a field that takes letters.
    Letters,
    /// A language.
    Language,
    /// `yes`; anything else is no.
    YesNo,
    /// The index of an option; empty: no answer.
    Choice,
    /// A new password.
    New,
    /// The same new password again.
    Again,
}

/// The answers of a form.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// To the questions of the chosen alternative and to those of all.
    pub(super) answers: Answers,
    /// Questions for a new password whose two fields differ.
    pub(super) differ: Option<String>,
    /// The answered language, if one was asked for.
    pub(super) language: Option<String>,
}

const SHAPES: [(Shape, &str); 9] = [
    (Shape::Value, "v"),
    (Shape::Optional, "o"),
    (Shape::Code, "t"),
    (Shape::Letters, "s"),
    (Shape::Language, "l"),
    (Shape::YesNo, "y"),
    (Shape::Choice, "c"),
    (Shape::New, "n"),
    (Shape::Again, "r"),
];

/// The name of a question's field: `GROUP.SHAPE.NAME`, where the group is an index or `-`.
pub(super) fn field_name(group: Option<usize>, shape: Shape, question: &str) -> String {
    let letter = SHAPES.iter().find(|(s, _)| *s == shape).map_or("v", |(_, letter)| letter);
    match group {
        Some(group) => format!("{group}.{letter}.{question}"),
        None => format!("-.{letter}.{question}"),
    }
}

impl Form {
    /// Reads `application/x-www-form-urlencoded` (WHATWG URL, section 5).
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut fields: Vec<(String, Secret)> = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let name = String::from_utf8(decoded(&pair[..end]).to_vec());
            let name = name.ok().filter(|name| name.len() <= NAME_BYTES);
            let name = name.ok_or_else(|| Problem::bad("the form: a field has no sound name"))?;
            if fields.len() >= FIELDS {
                return Err(Problem::bad(format!("the form has more than {FIELDS} fields")));
            }
            if fields.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Problem::bad("the form has a field twice"));
            }
            let value = decoded(pair.get(end + 1..).unwrap_or_default());
            fields.push((name, Secret::from(&value[..])));
        }
        Ok(Self(fields))
    }

    /// A field of the page, as text. Empty is absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        value.to_str().filter(|text| !text.is_empty())
    }

    /// Takes out the answers. Of several alternatives those of one count: of the one whose button was
    /// pressed; if nothing is in its fields, of the one that something is in, for pressing Enter presses the
    /// first button.
    pub(super) fn answers(&mut self) -> Given {
        let pressed = self.text("group").and_then(|group| group.parse().ok());
        let (fields, rest) = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(name, value)| (place(&name), name, value))
            .partition::<Vec<_>, _>(|(place, ..)| place.is_some());
        self.0 = rest.into_iter().map(|(_, name, value)| (name, value)).collect();
        let fields: Vec<_> = fields
            .into_iter()
            .filter_map(|(place, name, value)| place.map(|place| (place, name, value)))
            .collect();
        let filled = |group: usize| {
            fields.iter().any(|((g, ..), _, value)| *g == Some(group) && !value.is_empty())
        };
        let some = || fields.iter().filter_map(|((group, ..), ..)| *group).find(|g| filled(*g));
        let group = pressed.filter(|group| filled(*group)).or_else(some).or(pressed);

        let mut given = Given::default();
        let mut again = Vec::new();
        for ((in_group, shape, at), name, value) in fields {
            if in_group.is_some() && in_group != group {
                continue;
            }
            let question = name[at..].to_owned();
            match shape {
                Shape::Again => again.push((question, value)),
                Shape::Language => {
                    given.language = value.to_str().map(str::to_owned);
                    given.push(question, value);
                }
                Shape::Optional | Shape::Choice | Shape::Code | Shape::Letters
                    if value.is_empty() => {}
                Shape::Choice => {
                    let index = value.to_str().and_then(|index| index.parse().ok());
                    // The core tells what is no option.
                    given.push(question, Answer::Choice(index.unwrap_or(usize::MAX)));
                }
                Shape::YesNo => given.push(question, value.expose() == b"yes"),
                Shape::Code | Shape::Letters => given.push(question, without_gaps(&value)),
                Shape::Value | Shape::Optional | Shape::New => given.push(question, value),
            }
        }
        for (question, value) in again {
            if given.answers.value(&question) != Some(&value) {
                given.differ.get_or_insert(question);
            }
        }
        given
    }
}

impl Given {
    fn push(&mut self, question: String, answer: impl Into<Answer>) {
        self.answers.push(Cow::Owned(question), answer);
    }
}

/// Of a field's name: the alternative, the shape, and where the question's name begins.
fn place(name: &str) -> Option<(Option<usize>, Shape, usize)> {
    let mut parts = name.splitn(3, '.');
    let (group, letter, question) = (parts.next()?, parts.next()?, parts.next()?);
    let group = match group {
        "-" => None,
        index => Some(index.parse().ok()?),
    };
    let (shape, _) = SHAPES.iter().find(|(_, known)| *known == letter)?;
    Some((group, *shape, name.len() - question.len()))
}

/// Codes are shown in groups, and typed so; no code has a gap of its own.
fn without_gaps(value: &Secret) -> Secret {
    let kept = value.expose().iter().copied().filter(|byte| !matches!(byte, b' ' | b'-'));
    Secret::from(kept.collect::<Vec<u8>>())
}

fn decoded(piece: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut spaced = Zeroizing::new(piece.to_vec());
    for byte in spaced.iter_mut().filter(|byte| **byte == b'+') {
        *byte = b' ';
    }
    // With room for all of it: growing would leave a copy behind, unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(piece.len()));
    bytes.extend(percent_decode(&spaced));
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(body: &str) -> Given {
        Form::parse(body.as_bytes()).unwrap().answers()
    }

    #[test]
    fn every_shape() {
        let given = given(
            "check=x&-.v.username=ada+l&-.o.authzid=&-.t.otp=123%20456-7&-.l.language=de&\
             -.y.trust=yes&-.y.sure=no&-.c.device=1&-.c.none=&-.n.new-password=%C3%A4&-.r.new-password=%c3%a4",
        );
        let answers = &given.answers;
        assert_eq!(answers.text("username"), Some("ada l"));
        assert_eq!(answers.find("authzid"), None);
        assert_eq!(answers.text("otp"), Some("1234567"));
        assert_eq!((answers.text("language"), given.language.as_deref()), (Some("de"), Some("de")));
        assert_eq!(answers.find("trust"), Some(&Answer::Confirmed(true)));
        assert_eq!(answers.find("sure"), Some(&Answer::Confirmed(false)));
        assert_eq!(answers.find("device"), Some(&Answer::Choice(1)));
        assert_eq!(answers.find("none"), None);
        assert_eq!((answers.text("new-password"), given.differ), (Some("ä"), None));
        assert_eq!(answers.find("check"), None);
    }

    #[test]
    fn a_code_is_in_one_of_two_fields() {
        assert_eq!(given("-.t.otp=123+456&-.s.otp=").answers.text("otp"), Some("123456"));
        assert_eq!(given("-.t.otp=&-.s.otp=ab-cd").answers.text("otp"), Some("abcd"));
        assert_eq!(given("-.t.otp=&-.s.otp=").answers.find("otp"), None);
        // Both: two answers, which the core refuses.
        assert_eq!(given("-.t.otp=1&-.s.otp=2").answers.iter().count(), 2);
    }

    #[test]
    fn two_new_passwords_that_differ_are_told() {
        assert_eq!(given("-.n.p=a&-.r.p=b").differ.as_deref(), Some("p"));
        assert_eq!(given("-.n.p=a&-.r.p=").differ.as_deref(), Some("p"));
        assert_eq!(given("-.n.p=a").differ, None);
    }

    #[test]
    fn the_pressed_alternative_or_the_filled_one() {
        let names = |body: &str| {
            let given = given(body);
            given.answers.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("-.v.u=a&0.v.p=x&1.t.otp=1&group=1"), ["u", "otp"]);
        assert_eq!(names("-.v.u=a&0.v.p=&1.t.otp=1&group=0"), ["u", "otp"]);
        assert_eq!(names("-.v.u=a&0.v.p=&1.t.otp=&group=0"), ["u", "p"]);
        assert_eq!(names("-.v.u=a&0.v.p=x&1.t.otp="), ["u", "p"]);
    }

    #[test]
    fn bad_forms_are_refused() {
        assert!(Form::parse(b"a=1&a=2").is_err());
        assert!(Form::parse(b"%ff=1").is_err());
        assert!(Form::parse("a=&".repeat(2).as_bytes()).is_err());
        let many: String = (0..=FIELDS).map(|n| format!("f{n}=&")).collect();
        assert!(Form::parse(many.as_bytes()).is_err());
        assert!(Form::parse(format!("{}=", "a".repeat(301)).as_bytes()).is_err());
        assert!(Form::parse(b"&&a&=b&").is_ok());
    }

    #[test]
    fn fields_of_the_page_are_no_answers() {
        let mut form = Form::parse(b"login=x&round=1&-.v.a=1&9.q.b=2&x.v.c=3&-.v=4").unwrap();
        assert_eq!(form.answers().answers.iter().count(), 1);
        assert_eq!(form.text("login"), Some("x"));
    }

    proptest! {
        #[test]
        fn any_bytes_come_through(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let encoded: String = value.iter().map(|byte| format!("%{byte:02x}")).collect();
            let given = given(&format!("-.v.p={encoded}"));
            prop_assert_eq!(given.answers.value("p").unwrap().expose(), &value[..]);
        }

        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(mut form) = Form::parse(&body) {
                form.answers();
            }
        }

        #[test]
        fn names_go_there_and_back(group in proptest::option::of(0usize..20), name in "[a-z./-]{1,20}") {
            for (shape, _) in SHAPES {
                let text = field_name(group, shape, &name);
                prop_assert_eq!(place(&text), Some((group, shape, text.len() - name.len())));
            }
        }
    }
}
