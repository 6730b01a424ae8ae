//! The network config in force, and what the registry says about it since. A change takes effect when the daemon is
//! restarted: nodes can then be moved one by one, and a slip of the hand takes no cluster down.

use crate::network::NetworkConfig;
use serde_json::Value;
use std::collections::BTreeMap;
use tracing::{info, warn};

/// The config this daemon works by.
#[derive(Debug)]
pub struct InForce {
    text: String,
    network: Option<NetworkConfig>,
    /// Whether something else was last seen in the registry.
    differs: bool,
}

impl InForce {
    /// From its text.
    pub fn new(text: String) -> Self {
        Self {
            network: NetworkConfig::parse(&text).ok(),
            text,
            differs: false,
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes in what stands in the registry, which costs one line where it matters; tells whether it is another
    /// config that can be used.
    pub fn hear(&mut self, text: &str) -> bool {
        let read = NetworkConfig::parse(text);
        let same = read.is_ok() && read.as_ref().ok() == self.network.as_ref();
        let differed = std::mem::replace(&mut self.differs, !same);
        match read {
            Ok(_) if same && differed => {
                info!("the network config in the registry is again the one in force")
            }
            Ok(_) if same => {}
            Ok(_) => warn!(
                "the network config has changed: {}. Running on with the one in force; each daemon that is restarted takes up the new one",
                differences(&self.text, text).join(", ")
            ),
            Err(ref error) => warn!(
                "the network config was changed and cannot be used: {error}. Running on with the one in force; mend it before any daemon is restarted"
            ),
        }
        !same && read.is_ok()
    }
}

/// Every field that is not the same in both texts, in words.
fn differences(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (fields(old), fields(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let told = |name: &String| {
        let side = |fields: &Fields| fields.get(name).cloned();
        let (old, new) = (side(&old), side(&new));
        let word = |field: &Option<(String, String)>| {
            field
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), |(_, value)| value.clone())
        };
        let differs = word(&old) != word(&new);
        let shown = new
            .as_ref()
            .or(old.as_ref())
            .map(|(shown, _)| shown.clone());
        differs.then(|| {
            format!(
                "{} {} -> {}",
                shown.unwrap_or_default(),
                word(&old),
                word(&new)
            )
        })
    };
    names.into_iter().filter_map(told).collect()
}

/// Name as written and value, by the name in small letters: letter case does not matter in names.
type Fields = BTreeMap<String, (String, String)>;

fn fields(text: &str) -> Fields {
    let mut fields = Fields::new();
    if let Ok(value) = serde_json::from_str(text) {
        flatten("", &value, &mut fields);
    }
    fields
}

fn flatten(path: &str, value: &Value, fields: &mut Fields) {
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(&format!("{path}{dot}{name}"), value, fields);
            }
        }
        value => drop(fields.insert(path.to_lowercase(), (path.to_owned(), value.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":8285}}"#;

    #[test]
    fn what_differs_is_named_whatever_the_letter_case() {
        let new = r#"{"network":"10.6.0.0/16","SubnetLen":26,"backend":{"type":"udp"}}"#;
        assert_eq!(
            differences(OLD, new),
            [
                "Backend.Port 8285 -> nothing",
                "network \"10.5.0.0/16\" -> \"10.6.0.0/16\"",
                "SubnetLen nothing -> 26"
            ]
        );
    }

    #[test]
    fn only_another_config_that_can_be_used_counts_as_one() {
        let mut config = InForce::new(OLD.to_owned());
        assert!(
            !config.hear(r#"{"Network":"10.5.0.0/16"}"#),
            "only worded otherwise"
        );
        assert!(!config.hear("nonsense"));
        assert!(config.hear(r#"{"Network":"10.6.0.0/16"}"#));
        assert!(!config.hear(OLD));
        assert_eq!(config.text(), OLD);
    }
}
