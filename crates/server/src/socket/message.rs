//! The messages of `graphql-transport-ws`, read strictly. Knows their shape only.

use async_graphql::{Response, ServerError, Value};
use serde::Serialize;

use crate::{
    gateway::Body,
    identify::Refused,
    wire::{self, Envelope, Object},
};

/// What a client says.
pub(super) enum ClientMessage {
    ConnectionInit(Option<Object>),
    Ping(Option<Object>),
    Pong,
    Subscribe { id: String, envelope: Box<Envelope> },
    Complete { id: String },
}

/// What the server says. An executed `next` is here too; one that is JSON already is `next_serialized`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Outgoing<'a> {
    ConnectionAck,
    Ping {
        payload: Warning,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a Object>,
    },
    Next {
        id: &'a str,
        payload: Body<'a>,
    },
    Error {
        id: &'a str,
        payload: &'a [ServerError],
    },
    Complete {
        id: &'a str,
    },
}

/// What a ping tells before the server has to close the socket.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Warning {
    pub token_expires_in_seconds: u64,
}

impl<'a> Outgoing<'a> {
    pub(super) fn next(id: &'a str, result: &'a Response) -> Self {
        Self::Next { id, payload: Body::executed(result) }
    }
}

/// A `next` around a payload that is JSON already.
pub(super) fn next_serialized(id: &str, payload: &str) -> String {
    let id = serde_json::Value::from(id);
    format!(r#"{{"type":"next","id":{id},"payload":{payload}}}"#)
}

impl ClientMessage {
    /// Fails with the reason for closing with 4400.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut object = wire::object(text.as_bytes()).map_err(|why| format!("Invalid message: {why}"))?;
        let Some(Value::String(kind)) = object.swap_remove("type") else {
            return Err("Invalid message: “type” is missing".into());
        };
        let payload = |object: &mut Object| match object.swap_remove("payload") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(payload)) => Ok(Some(payload)),
            Some(_) => Err("Invalid message: “payload” must be an object"),
        };
        let id = |object: &mut Object| match object.swap_remove("id") {
            Some(Value::String(id)) if !id.is_empty() => Ok(id),
            _ => Err("Invalid message: “id” must be a text, not empty"),
        };
        Ok(match kind.as_str() {
            "connection_init" => Self::ConnectionInit(payload(&mut object)?),
            "ping" => Self::Ping(payload(&mut object)?),
            "pong" => {
                payload(&mut object)?;
                Self::Pong
            }
            "complete" => Self::Complete { id: id(&mut object)? },
            "subscribe" => {
                let id = id(&mut object)?;
                let payload = payload(&mut object)?.ok_or("Invalid message: “payload” is missing")?;
                let envelope =
                    Envelope::read(payload).map_err(|error| format!("Invalid message: {}", error.message))?;
                Self::Subscribe { id, envelope: Box::new(envelope) }
            }
            _ => return Err("Invalid message: its type is unknown".into()),
        })
    }
}

/// The `Authorization` value of a `connection_init` payload: under that name, in any case, or inside of `headers`.
pub(super) fn authorization(payload: &Object) -> Result<Option<&str>, Refused> {
    let find =
        |object: &'_ Object| object.iter().position(|(key, _)| key.eq_ignore_ascii_case("authorization"));
    let headers = match payload.get("headers") {
        Some(Value::Object(headers)) => Some(headers),
        _ => None,
    };
    for object in [Some(payload), headers].into_iter().flatten() {
        match find(object).and_then(|index| object.get_index(index)) {
            None | Some((_, Value::Null)) => {}
            Some((_, Value::String(value))) if value.is_empty() => {}
            Some((_, Value::String(value))) => return Ok(Some(value)),
            Some(_) => return Err(Refused::Invalid),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(json: &str) -> Result<Option<String>, Refused> {
        authorization(&wire::object(json.as_bytes()).unwrap()).map(|value| value.map(Into::into))
    }

    #[test]
    fn the_token_is_found_where_clients_put_it() {
        for json in [
            r#"{"authorization":"Bearer a"}"#,
            r#"{"Authorization":"Bearer a"}"#,
            r#"{"headers":{"Authorization":"Bearer a"}}"#,
            r#"{"authorization":null,"headers":{"authorization":"Bearer a"}}"#,
        ] {
            assert_eq!(token(json).unwrap().as_deref(), Some("Bearer a"), "{json}");
        }
        assert_eq!(token("{}").unwrap(), None);
        assert_eq!(token(r#"{"authorization":1}"#), Err(Refused::Invalid));
    }

    #[test]
    fn a_serialised_payload_keeps_the_id_a_json_text() {
        let text = next_serialized("a\"b", r#"{"data":1}"#);
        assert_eq!(text, r#"{"type":"next","id":"a\"b","payload":{"data":1}}"#);
    }
}
