//! Answers and errors, in the words and forms of each service.

use druse_aws::xml::escape;
use druse_object::{Map, Value, json};
use zeroize::Zeroizing;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body; it may hold a value.
    pub body: Zeroizing<Vec<u8>>,
}

/// An error of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
    /// A request that is not what the service takes.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationException", message)
    }
    /// The store failed.
    pub(crate) fn internal(e: impl std::fmt::Display) -> Self {
        tracing::error!("the local cloud's store failed: {e}");
        Self::new(500, "InternalServerError", "An error occurred on the server side.")
    }
}

/// Which form an error takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Query,
    S3,
}

fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Response {
    pub(crate) fn json(value: &Value) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/x-amz-json-1.1".into()), ("x-amzn-requestid", request_id())],
            body: Zeroizing::new(json::to_string(value).into_bytes()),
        }
    }

    /// The result of a query call; `result` is XML.
    pub(crate) fn query(action: &str, result: &str) -> Self {
        let id = request_id();
        let text = format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <{action}Result>{result}\
             </{action}Result>\n  <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\n</{action}Response>\n"
        );
        Self {
            status: 200,
            headers: vec![("content-type", "text/xml".into()), ("x-amzn-requestid", id)],
            body: Zeroizing::new(text.into_bytes()),
        }
    }

    pub(crate) fn fault(fault: &Fault, form: Form) -> Self {
        let id = request_id();
        let (code, message) = (fault.code, escape(&fault.message));
        let (kind, text) = match form {
            Form::Json => {
                let mut m = Map::new();
                m.insert("__type", code);
                m.insert("message", fault.message.as_str());
                ("application/x-amz-json-1.1", json::to_string(&Value::Map(m)))
            }
            Form::Query => {
                let side = if fault.status >= 500 { "Receiver" } else { "Sender" };
                (
                    "text/xml",
                    format!(
                        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error><Type>{side}</Type>\
                         <Code>{code}</Code><Message>{message}</Message></Error>\n  <RequestId>{id}</RequestId>\n\
                         </ErrorResponse>\n"
                    ),
                )
            }
            Form::S3 => (
                "application/xml",
                format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
                     <RequestId>{id}</RequestId></Error>"
                ),
            ),
        };
        Self {
            status: fault.status,
            headers: vec![("content-type", kind.into()), ("x-amzn-requestid", id)],
            body: Zeroizing::new(text.into_bytes()),
        }
    }
}
