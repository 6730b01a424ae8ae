//! What a runtime can ask for, one function each.

use serde_json::{Map, Value, json};

use crate::config::{self, Config};
use crate::delegate::{Delegate, instructions};
use crate::error::{Error, code};
use crate::request::{Attachment, plugin_directories, required};
use crate::state::States;
use crate::subnet::Subnet;
use crate::version::{SUPPORTED, Version};

/// Does what is asked; what is to be printed.
pub(crate) fn answer(command: &str, input: &Value) -> Result<Vec<u8>, Error> {
    match command {
        "VERSION" => version(input),
        "ADD" => add(&Config::parse(input)?),
        "DEL" => delete(&Config::parse(input)?),
        "CHECK" => check(&Config::parse(input)?),
        "STATUS" => status(&Config::parse(input)?),
        "GC" => collect(&Config::parse(input)?),
        other => {
            let why = format!("CNI_COMMAND \"{}\" is unknown", other.escape_default());
            Err(Error::new(code::ENVIRONMENT, why))
        }
    }
}

fn version(input: &Value) -> Result<Vec<u8>, Error> {
    let version = config::version(input)?;
    let said = json!({"cniVersion": version.name(), "supportedVersions": SUPPORTED});
    Ok(format!("{said}\n").into_bytes())
}

/// What the delegate is told is kept before it is told: whatever happens then can be undone.
fn add(config: &Config) -> Result<Vec<u8>, Error> {
    let attachment = Attachment::from_environment()?;
    required("CNI_NETNS")?;
    let told = instructions(config, &Subnet::read(&config.subnet_file)?);
    let text = Value::Object(told.clone()).to_string();
    let delegate = Delegate::find(told)?;
    States(&config.data_directory).save(&attachment, &text)?;
    delegate.call()
}

/// What was never added is as good as deleted. What could not be undone is kept, to be tried again.
fn delete(config: &Config) -> Result<Vec<u8>, Error> {
    let attachment = Attachment::from_environment()?;
    plugin_directories()?;
    let states = States(&config.data_directory);
    match told(&states, &attachment)? {
        Told::Nothing => return Ok(Vec::new()),
        Told::Nonsense => eprintln!(
            "flannel: what {} keeps of container {} is no JSON; its address may stay taken",
            config.data_directory.display(),
            attachment.container
        ),
        Told::This(told) => {
            let delegate = Delegate::find(told)?.with("prevResult", config.previous.clone());
            delegate.call()?;
        }
    }
    states.forget(&attachment)?;
    Ok(Vec::new())
}

/// Whether what was added could be undone. The delegate is not asked: `bridge` (as of 1.1) misses routes without a
/// gateway, as all those to a flannel network are, though they stand.
fn check(config: &Config) -> Result<Vec<u8>, Error> {
    config.version.needs(Version::CHECKS, "CHECK")?;
    let attachment = Attachment::from_environment()?;
    required("CNI_NETNS")?;
    plugin_directories()?;
    match told(&States(&config.data_directory), &attachment)? {
        Told::This(told) => Delegate::find(told).map(|_| Vec::new()),
        _ => {
            let why = format!(
                "nothing is known of {} of container {}",
                attachment.interface, attachment.container
            );
            Err(Error::new(code::UNKNOWN_CONTAINER, why).cure("add it again"))
        }
    }
}

/// Whether containers could be added now.
fn status(config: &Config) -> Result<Vec<u8>, Error> {
    config.version.needs(Version::COLLECTS, "STATUS")?;
    let unavailable = |error: Error| error.of_kind(code::NOT_AVAILABLE);
    let subnet = Subnet::read(&config.subnet_file).map_err(unavailable)?;
    let delegate = Delegate::find(instructions(config, &subnet));
    delegate.map_err(unavailable)?.call()
}

/// Undoes what the runtime knows nothing of, then has the delegate look for more.
fn collect(config: &Config) -> Result<Vec<u8>, Error> {
    config.version.needs(Version::COLLECTS, "GC")?;
    plugin_directories()?;
    let valid = config.attachments()?;
    let states = States(&config.data_directory);
    let stale = states.all()?.into_iter().filter(|one| !valid.contains(one));
    let undone: Vec<_> = stale.map(|one| undo(config, &states, &one)).collect();
    let subnet = Subnet::read(&config.subnet_file)?;
    let delegate = Delegate::find(instructions(config, &subnet))?;
    let said = delegate
        .with("cni.dev/valid-attachments", config.valid.clone())
        .call()?;
    undone.into_iter().collect::<Result<(), _>>()?;
    Ok(said)
}

/// Undoes one attachment if it is of this network: others keep their files in the same directory.
fn undo(config: &Config, states: &States<'_>, attachment: &Attachment) -> Result<(), Error> {
    let Told::This(told) = told(states, attachment)? else {
        return Ok(());
    };
    if told.get("name") != Some(&json!(config.name)) {
        return Ok(());
    }
    Delegate::find(told)?.call_to_delete(attachment)?;
    states.forget(attachment)
}

/// What the delegate was told when an attachment was made.
enum Told {
    Nothing,
    Nonsense,
    This(Map<String, Value>),
}

fn told(states: &States<'_>, attachment: &Attachment) -> Result<Told, Error> {
    let kept = states.load(attachment)?;
    Ok(match kept.map(|text| serde_json::from_str(&text)) {
        None => Told::Nothing,
        Some(Err(_)) => Told::Nonsense,
        Some(Ok(told)) => Told::This(told),
    })
}
