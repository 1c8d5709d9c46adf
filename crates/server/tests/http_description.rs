//! The description for machines against the code. (Real replies are checked against it wherever a test
//! makes a request.)

mod support;

#[path = "../../../fuzz/replay.rs"]
mod replay;

use std::collections::BTreeSet;

use countersign_server::admin::{
    Done, FactorsRemoved, GroupRecord, NewGroup, NewPassword, NewUser, ThrottlesCleared,
    UserChange, UserView,
};
use countersign_server::front::http::{
    self, Events, GroupSettings, Groups, LoginReply, LoginRequest, Members, Membership, OPENAPI,
    ProblemView, ROUTES, RoundAnswers, SessionView, UserFactors, Users,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use support::schema::Schemas;

#[test]
fn every_operation_is_described_and_served() {
    let schemas = Schemas::of(OPENAPI);
    let mut documented = BTreeSet::new();
    for (path, methods) in schemas.document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
            let parts: Vec<_> = path.split('/').filter_map(|p| p.strip_prefix('{')).collect();
            let named = operation["parameters"].as_array().into_iter().flatten();
            let named = named.filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap());
            let named: Vec<_> = named.collect();
            assert!(parts.iter().map(|p| p.trim_end_matches('}')).eq(named), "{method} {path}");
        }
    }
    let served: BTreeSet<_> =
        ROUTES.iter().map(|route| format!("{} {}", described(route), plain(route.path))).collect();
    assert_eq!(served.len(), ROUTES.len(), "a route twice");
    assert_eq!(documented, served);
}

/// One that takes every method is described once.
fn described(route: &http::Route) -> &'static str {
    if route.method == http::ANY { "GET" } else { route.method }
}

/// OpenAPI has no word for the rest of a path.
fn plain(path: &str) -> String {
    path.replace("{*", "{")
}

#[test]
fn every_reference_and_example_holds() {
    let schemas = Schemas::of(OPENAPI);
    references(&schemas, &schemas.document);
    let mut examples = 0;
    for (name, schema) in schemas.document["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            schemas.check(schema, example);
            readable(name, example).unwrap_or_else(|error| panic!("{name}: {error}"));
            examples += 1;
        }
    }
    assert!(examples > 20);
}

/// A body or reply schema without an example would be compared with no type.
#[test]
fn every_body_has_an_example() {
    let schemas = Schemas::of(OPENAPI);
    let mut used = BTreeSet::new();
    bodies(&schemas.document, &mut used);
    for reference in used {
        let pointer = reference.strip_prefix('#').unwrap();
        let schema = schemas.document.pointer(pointer).unwrap();
        assert!(schema["examples"].is_array(), "{reference} has no example");
    }
}

#[test]
fn the_types_refuse_what_the_schemas_refuse() {
    let schemas = Schemas::of(OPENAPI);
    for (name, schema) in schemas.document["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            if matches!(
                name.as_str(),
                "User"
                    | "Users"
                    | "Group"
                    | "Groups"
                    | "Members"
                    | "Events"
                    | "Done"
                    | "FactorsRemoved"
            ) {
                continue; // replies, whose types a client of ours reads leniently
            }
            let mut stranger = example.clone();
            stranger["stranger"] = Value::Bool(true);
            assert!(schemas.fits(schema, &stranger).is_err(), "{name}");
            assert!(readable(name, &stranger).is_err(), "{name}");
            for field in schema["required"].as_array().into_iter().flatten() {
                let mut without = example.clone();
                without.as_object_mut().unwrap().remove(field.as_str().unwrap());
                assert!(readable(name, &without).is_err(), "{name} without {field}");
            }
        }
    }
}

#[test]
fn http_login() {
    replay::corpus("http_login", http::fuzzing::login_request);
}

fn readable(name: &str, example: &Value) -> Result<(), String> {
    fn read<T: DeserializeOwned>(example: &Value) -> Result<(), String> {
        // From text, as a body comes.
        let text = example.to_string();
        serde_json::from_str::<T>(&text).map(drop).map_err(|error| error.to_string())
    }
    match name {
        "LoginRequest" => read::<LoginRequest>(example),
        "RoundAnswers" => read::<RoundAnswers>(example),
        "Granted" | "Ask" | "Denied" | "Misuse" => read::<LoginReply>(example),
        "Session" => read::<SessionView>(example),
        "Problem" => read::<ProblemView>(example),
        "NewUser" => read::<NewUser>(example),
        "UserChange" => read::<UserChange>(example),
        "NewPassword" => read::<NewPassword>(example),
        "Done" => read::<Done>(example),
        "Users" => read::<Users>(example),
        "User" => read::<UserView>(example),
        "NewGroup" => read::<NewGroup>(example),
        "Group" => read::<GroupRecord>(example),
        "GroupSettings" => read::<GroupSettings>(example),
        "Groups" => read::<Groups>(example),
        "Members" => read::<Members>(example),
        "Member" => read::<Membership>(example),
        "Events" => read::<Events>(example),
        "Readiness" => read::<http::Readiness>(example),
        "NewNotice" => read::<http::NewNotice>(example),
        "Reached" => read::<http::Reached>(example),
        "Factors" => read::<UserFactors>(example),
        "Throttles" => read::<http::Throttles>(example),
        "ThrottlesCleared" => read::<ThrottlesCleared>(example),
        "FactorsRemoved" => read::<FactorsRemoved>(example),
        other => panic!("no type for the schema `{other}`"),
    }
}

fn references(schemas: &Schemas, value: &Value) {
    if value["$ref"].is_string() {
        schemas.resolved(value);
    }
    let items = value.as_array().into_iter().flatten();
    let members = value.as_object().into_iter().flat_map(serde_json::Map::values);
    items.chain(members).for_each(|value| references(schemas, value));
}

/// The schemas that are bodies as they are, or one of several.
fn bodies(value: &Value, used: &mut BTreeSet<String>) {
    if let Some(schema) = value.get("application/json").and_then(|json| json.get("schema")) {
        let several = schema["oneOf"].as_array().into_iter().flatten();
        let names = several.chain([schema]).filter_map(|schema| schema["$ref"].as_str());
        used.extend(names.map(str::to_owned));
    }
    let items = value.as_array().into_iter().flatten();
    let members = value.as_object().into_iter().flat_map(serde_json::Map::values);
    items.chain(members).for_each(|value| bodies(value, used));
}
