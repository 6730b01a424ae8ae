//! JSON objects read by Go's rules: field names match in any letter case, the last one wins, unknown ones are ignored.
//!
//! Records and the network config are written by hand and by other programs; guides really spell
//! `"Directrouting"`. A derive cannot match names loosely, so readers here ask an [`Object`] for fields. Values stay
//! texts until somebody wants to know what they mean: what is nobody's business here is handed on as it came.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::str::FromStr;

/// The fields of one JSON object in the order they were written.
#[derive(Clone, Debug)]
pub(crate) struct Object(Vec<(String, Box<RawValue>)>);

/// What is wrong with a JSON text, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(pub(crate) String);

impl Object {
    /// Parses a text that must be one JSON object.
    pub(crate) fn parse(text: &str) -> Result<Self, JsonError> {
        serde_json::from_str(text).map_err(|error| JsonError(format!("not a JSON object: {error}")))
    }

    /// The text of a field's value; `null` counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut matching = self
            .0
            .iter()
            .rev()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        matching
            .find(|(_, value)| value.get() != "null")
            .map(|(_, value)| value.get())
    }

    /// What a field's value means, if there is a value.
    fn read<'s, T: Deserialize<'s>>(
        &'s self,
        name: &str,
        wanted: &str,
    ) -> Result<Option<T>, JsonError> {
        let read = |value| serde_json::from_str(value).map_err(|_| wrong(name, wanted, value));
        self.get(name).map(read).transpose()
    }

    /// An object in the object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, JsonError> {
        self.get(name).map(Self::parse).transpose()
    }

    /// A text field, empty when absent.
    pub(crate) fn text(&self, name: &str) -> Result<String, JsonError> {
        Ok(self.read(name, "a string")?.unwrap_or_default())
    }

    /// A yes-or-no field.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, JsonError> {
        Ok(self.read(name, "true or false")?.unwrap_or(default))
    }

    /// A whole number that fits the type asked for.
    pub(crate) fn number<N: DeserializeOwned>(
        &self,
        name: &str,
        default: N,
    ) -> Result<N, JsonError> {
        let number = self.read(name, "a whole number in range")?;
        Ok(number.unwrap_or(default))
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

/// A JSON text without the space between its parts: on one line, and of one value one text.
pub(crate) fn compact(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let carries_meaning = |c: &char| {
        let kept = quoted || !c.is_ascii_whitespace();
        quoted ^= *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        kept
    };
    text.chars().filter(carries_meaning).collect()
}

fn wrong(name: &str, wanted: &str, found: &str) -> JsonError {
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
        assert_eq!(object.text("Network").unwrap(), "b");
    }

    #[test]
    fn what_nobody_asks_for_may_be_anything() {
        let object = Object::parse(r#"{"a":1e999,"b":"\ud800","Network":"c"}"#).unwrap();
        assert_eq!(object.text("Network").unwrap(), "c");
        assert_eq!(object.get("a"), Some("1e999"));
        assert!(object.text("b").is_err());
    }

    #[test]
    fn space_goes_but_where_it_means_something() {
        let text = " {\n\"a b\" : [ 1.0 ,\t\"\\\" \\\\\" ] }\r\n";
        assert_eq!(compact(text), r#"{"a b":[1.0,"\" \\"]}"#);
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
