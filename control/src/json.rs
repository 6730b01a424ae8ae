//! JSON objects read by Go's rules: field names match in any letter case, the last one wins, unknown ones are ignored.
//!
//! Records and the network config are written by hand and by other programs; guides really spell
//! `"Directrouting"`. A derive cannot match names loosely, so readers here ask an [`Object`] for fields.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// The fields of one JSON object in the order they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object(Vec<(String, Value)>);

/// What is wrong with a JSON text, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(pub(crate) String);

impl Object {
    /// Parses a text that must be one JSON object.
    pub(crate) fn parse(text: &str) -> Result<Self, JsonError> {
        serde_json::from_str(text).map_err(|error| JsonError(format!("not a JSON object: {error}")))
    }

    /// The object inside a value.
    pub(crate) fn from_value(value: &Value) -> Result<Self, JsonError> {
        Self::deserialize(value).map_err(|error| JsonError(format!("not a JSON object: {error}")))
    }

    /// The value of a field; `null` counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let mut matching = self
            .0
            .iter()
            .rev()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        matching
            .find(|(_, value)| !value.is_null())
            .map(|(_, value)| value)
    }

    /// A text field, empty when absent.
    pub(crate) fn text(&self, name: &str) -> Result<&str, JsonError> {
        match self.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong(name, "a string", other)),
        }
    }

    /// A yes-or-no field.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, JsonError> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    /// A whole number that fits the type asked for.
    pub(crate) fn number<N: TryFrom<u64>>(&self, name: &str, default: N) -> Result<N, JsonError> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let number = value.as_u64().and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| wrong(name, "a whole number in range", value))
    }

    /// A field whose text must parse, such as an address.
    pub(crate) fn parsed<T: FromStr>(
        &self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, JsonError> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = |_| JsonError(format!("{name}: invalid {what}: {text}"));
        text.parse().map(Some).map_err(invalid)
    }
}

fn wrong(name: &str, wanted: &str, found: &Value) -> JsonError {
    JsonError(format!("{name} must be {wanted}, not {found}"))
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object in braces")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_the_last_one_wins() {
        let object = Object::parse(r#"{"network":"a","Network":"b","other":1}"#).unwrap();
        assert_eq!(object.text("Network"), Ok("b"));
    }

    #[test]
    fn null_counts_as_absent() {
        let object = Object::parse(r#"{"SubnetLen":null}"#).unwrap();
        assert_eq!(object.number("SubnetLen", 24u8), Ok(24));
    }

    #[test]
    fn a_number_in_quotes_is_refused() {
        let object = Object::parse(r#"{"VNI":"7"}"#).unwrap();
        assert_eq!(
            object.number("VNI", 1u32).unwrap_err().to_string(),
            r#"VNI must be a whole number in range, not "7""#
        );
    }

    #[test]
    fn text_that_is_no_object_is_refused() {
        for text in ["", "[]", "7", "{", r#"{"a":1} x"#] {
            assert!(Object::parse(text).is_err(), "{text}");
        }
    }
}
