//! As much of JSON Schema as the description for machines uses. A keyword that is not known here fails,
//! so that nothing in the description goes unchecked.

use serde_json::Value;

/// A document with schemas in it.
pub(crate) struct Schemas {
    pub(crate) document: Value,
}

impl Schemas {
    pub(crate) fn of(text: &str) -> Self {
        Self { document: serde_json::from_str(text).unwrap() }
    }

    /// What a reference refers to, or the value itself.
    pub(crate) fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.strip_prefix('#').unwrap();
        let found = self.document.pointer(pointer).unwrap_or_else(|| panic!("no {reference}"));
        self.resolved(found)
    }

    /// Panics unless the value fits the schema.
    pub(crate) fn check(&self, schema: &Value, value: &Value) {
        if let Err(error) = self.fits(schema, value) {
            panic!("{error}\n{value:#}");
        }
    }

    pub(crate) fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolved(schema);
        let wrong = |what: &str, rule: &Value| Err(format!("{value} breaks {what} {rule}"));
        for (keyword, rule) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "description" | "default" | "examples" | "format" => true,
                "type" => match rule {
                    Value::Array(kinds) => kinds.iter().any(|kind| is(kind, value)),
                    kind => is(kind, value),
                },
                "const" => rule == value,
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value.as_i64().is_none_or(|n| n >= rule.as_i64().unwrap()),
                "maximum" => value.as_i64().is_none_or(|n| n <= rule.as_i64().unwrap()),
                "minLength" => length(value).is_none_or(|n| n >= rule.as_u64().unwrap()),
                "maxLength" => length(value).is_none_or(|n| n <= rule.as_u64().unwrap()),
                "maxItems" | "maxProperties" => size(value) <= rule.as_u64().unwrap(),
                "pattern" => {
                    // The one pattern that there is: a login's id.
                    assert_eq!(rule, "^[0-9a-f]{4}-[0-9a-f]{32}$");
                    value.as_str().unwrap().parse::<countersign::Id>().is_ok()
                }
                "required" => {
                    let names = rule.as_array().unwrap().iter();
                    names.into_iter().all(|name| value.get(name.as_str().unwrap()).is_some())
                }
                "properties" => {
                    for (name, schema) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            self.fits(schema, value).map_err(|why| format!("{name}: {why}"))?;
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        if schema["properties"].get(name).is_some() {
                            continue;
                        }
                        if *rule == false {
                            return wrong(&format!("the absence of `{name}`"), rule);
                        }
                        self.fits(rule, value)?;
                    }
                    true
                }
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.fits(rule, item)?;
                    }
                    true
                }
                "oneOf" => {
                    let fitting = rule.as_array().unwrap().iter();
                    fitting.filter(|schema| self.fits(schema, value).is_ok()).count() == 1
                }
                other => panic!("the keyword `{other}` is not checked by anything"),
            };
            if !holds {
                return wrong(keyword, rule);
            }
        }
        Ok(())
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the type `{other}` is not checked by anything"),
    }
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

fn size(value: &Value) -> u64 {
    value.as_array().map(Vec::len).or(value.as_object().map(serde_json::Map::len)).unwrap_or(0)
        as u64
}
