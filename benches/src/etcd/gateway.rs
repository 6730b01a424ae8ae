//! Calls over HTTP, without a process for each, for many changes or for exact times: by version 3 etcd's JSON gateway.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use super::Api;
use crate::namespace::Namespace;

/// Writes in one transaction; etcd takes no more than 128.
const TOGETHER: usize = 100;

/// One member, called over HTTP.
#[derive(Debug)]
pub struct Gateway {
    namespace: Option<Namespace>,
    address: SocketAddr,
    api: Api,
}

impl Gateway {
    pub(super) fn new(namespace: Option<Namespace>, address: SocketAddr) -> Self {
        let api = Api::V3;
        Self {
            namespace,
            address,
            api,
        }
    }

    /// The same by a version of the API.
    pub fn by(self, api: Api) -> Self {
        Self { api, ..self }
    }

    /// Writes a value.
    pub fn put(&self, key: &str, value: &[u8]) -> io::Result<()> {
        match self.api {
            Api::V3 => self.post("kv/put", &pair(key, value)).map(drop),
            Api::V2 => self.ask_v2("PUT", key, Some(value)),
        }
    }

    /// Writes many values; by version 3 some in each transaction.
    pub fn put_all(&self, pairs: &[(String, Vec<u8>)]) -> io::Result<()> {
        if self.api == Api::V2 {
            return pairs
                .iter()
                .try_for_each(|(key, value)| self.put(key, value));
        }
        let put = |(key, value): &(String, Vec<u8>)| json!({ "requestPut": pair(key, value) });
        self.all(&pairs.iter().map(put).collect::<Vec<_>>())
    }

    /// Removes many keys; by version 3 some in each transaction.
    pub fn delete_all(&self, keys: &[String]) -> io::Result<()> {
        if self.api == Api::V2 {
            return keys.iter().try_for_each(|key| self.delete(key));
        }
        let delete = |key: &String| json!({ "requestDeleteRange": named(key) });
        self.all(&keys.iter().map(delete).collect::<Vec<_>>())
    }

    fn all(&self, operations: &[Value]) -> io::Result<()> {
        let some = |some| self.post("kv/txn", &json!({ "success": some })).map(drop);
        operations.chunks(TOGETHER).try_for_each(some)
    }

    /// Removes a key.
    pub fn delete(&self, key: &str) -> io::Result<()> {
        match self.api {
            Api::V3 => self.post("kv/deleterange", &named(key)).map(drop),
            Api::V2 => self.ask_v2("DELETE", key, None),
        }
    }

    /// A question by version 2.
    fn ask_v2(&self, method: &str, key: &str, value: Option<&[u8]>) -> io::Result<()> {
        let parts = key.split('/').map(|part| coded(part.as_bytes()));
        let path = parts.collect::<Vec<_>>().join("/");
        let form = value.map(|value| format!("value={}", coded(value)));
        let form = form.unwrap_or_default();
        let head = format!(
            "{method} /v2/keys{path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            form.len()
        );
        self.ask(&head, form.as_bytes()).map(drop)
    }

    /// How many calls of one kind, such as `Range`, the member has answered.
    pub fn calls(&self, kind: &str) -> io::Result<u64> {
        let all = self.ask("GET /metrics HTTP/1.0\r\n\r\n", &[])?;
        let method = format!("grpc_method=\"{kind}\"");
        let counters = all.lines().filter(|line| {
            line.starts_with("grpc_server_started_total{") && line.contains(&method)
        });
        let counts = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(counts.sum::<f64>() as u64)
    }

    fn post(&self, call: &str, body: &Value) -> io::Result<Value> {
        let body = body.to_string();
        let head = format!(
            "POST /v3/{call} HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Ok(serde_json::from_str(&self.ask(&head, body.as_bytes())?)?)
    }

    /// One request on a connection of its own; only an answer of success is one.
    fn ask(&self, head: &str, body: &[u8]) -> io::Result<String> {
        let connect = || TcpStream::connect(self.address);
        let mut stream = match &self.namespace {
            Some(namespace) => namespace.enter(connect)?,
            None => connect()?,
        };
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if head
            .split(' ')
            .nth(1)
            .is_some_and(|code| code.starts_with('2'))
        {
            return Ok(body.to_owned());
        }
        Err(io::Error::other(format!("etcd's gateway says {answer}")))
    }
}

/// A part of a path or of a form: what means something there is written by its number, and the rest is not made longer.
/// A request may begin with no more than 4096 bytes in a line.
fn coded(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[".contains(&byte);
    let word = |byte: &u8| match plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    bytes.iter().map(word).collect()
}

fn named(key: &str) -> Value {
    json!({ "key": base64(key.as_bytes()) })
}

fn pair(key: &str, value: &[u8]) -> Value {
    json!({ "key": base64(key.as_bytes()), "value": base64(value) })
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() {
                '='
            } else {
                digit.into()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::Etcd;

    #[test]
    fn text_in_base64_is_padded() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn what_goes_through_the_gateway_is_found_in_the_store() {
        let mut etcd = Etcd::start().unwrap();
        let gateway = etcd.member(0).gateway().unwrap();
        let pairs: Vec<_> = (0..250)
            .map(|n| (format!("/n/{n}"), b"\0\xff".to_vec()))
            .collect();
        gateway.put_all(&pairs).unwrap();
        gateway.delete("/n/0").unwrap();
        gateway.put("/n/1", b"one").unwrap();
        assert_eq!(etcd.keys("/n/").unwrap().len(), 249);
        assert_eq!(etcd.get("/n/1").unwrap(), "one");
        assert_eq!(gateway.calls("Txn").unwrap(), 3);
    }

    #[test]
    fn what_goes_through_the_gateway_by_version_2_is_found_in_the_store() {
        let mut etcd = Etcd::plan().version_2().launch().unwrap();
        let gateway = etcd.member(0).gateway().unwrap().by(Api::V2);
        let pairs = [("/n/a&b", "x=\u{e9}"), ("/n/c", "")];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        gateway.put_all(&pairs).unwrap();
        assert_eq!(etcd.v2().get("/n/a&b").unwrap(), "x=\u{e9}");
        gateway.delete_all(&["/n/a&b".to_owned()]).unwrap();
        assert_eq!(etcd.v2().keys("/n").unwrap(), ["/n/c"]);
    }
}
