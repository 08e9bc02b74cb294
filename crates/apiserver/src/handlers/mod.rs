//! From an authorized request to an answer.

mod access;
mod call;
mod create;
mod delete;
mod devices;
mod discovery;
mod evict;
mod forms;
mod info;
mod patch;
mod pods;
mod read;
mod reviews;
mod subresource;
mod update;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tower::Service;

use crate::auth::User;
use crate::body::Body;
use crate::request::RequestInfo;
use crate::response;
use crate::server::Shared;
use crate::status::Status;

pub use call::Call;
pub(crate) use create::insert;
pub(crate) use delete::{Options as DeleteOptions, remove};
pub(crate) use update::{Mode, change};

/// What every handler answers.
pub type Answer = Result<Response<Body>, Status>;

/// The innermost service: admits and stores.
#[derive(Clone, Debug)]
pub struct Handlers {
    shared: Arc<Shared>,
}

impl Handlers {
    /// Over a server's state.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Service<Request<Bytes>> for Handlers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let shared = self.shared.clone();
        async move { Ok(handle(shared, request).await.unwrap_or_else(|s| response::status(&s))) }.boxed()
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Bytes>) -> Answer {
    let (parts, body) = request.into_parts();
    let info = parts.extensions.get::<Arc<RequestInfo>>().cloned();
    let info = info.ok_or_else(|| Status::internal("request without target"))?;
    let user = parts.extensions.get::<User>().cloned().unwrap_or_else(User::anonymous);
    if !info.is_resource {
        return info::path(&shared, &info, &parts.method, &parts.headers).await;
    }
    let call = Call::new(shared, info, user, parts.method, parts.headers, body)?;
    // Warnings go with refusals too.
    let answer = answer(&call).await;
    let may_have_written = answer.is_ok() && call.method != http::Method::GET;
    if may_have_written && call.resource.group == crate::controllers::flow::GROUP {
        crate::controllers::flow::settle(&call.shared).await;
    }
    let mut answer = answer.unwrap_or_else(|s| response::status(&s));
    let mut warnings: Vec<_> = call.version()?.deprecation.as_ref().map(ToString::to_string).into_iter().collect();
    warnings.append(&mut call.warnings.lock());
    call::warn(&mut answer, &warnings);
    Ok(answer)
}

async fn answer(call: &Call) -> Answer {
    let sub = call.info.subresource.clone();
    if !sub.is_empty() {
        return subresource::dispatch(call, &sub).await;
    }
    if !call.resource.allows(call.info.verb) {
        return Err(Status::method_not_supported());
    }
    let named = !call.info.name.is_empty();
    let possible = match call.info.verb {
        "update" | "patch" => named,
        // Nothing is deleted in all namespaces at once, and an object is read, not asked about.
        "deletecollection" => !call.resource.namespaced || !call.info.namespace.is_empty(),
        _ => call.method != http::Method::HEAD,
    };
    if !possible {
        return Err(Status::method_not_supported());
    }
    if matches!(call.info.verb, "create" | "update" | "patch") {
        call.check_options()?;
    }
    if !call.resource.is_stored() {
        return reviews::create(call).await;
    }
    match call.info.verb {
        "get" => read::get(call),
        "list" => read::list(call),
        "watch" => watch::watch(call),
        "create" => create::create(call).await,
        "update" => update::update(call).await,
        "patch" => patch::patch(call).await,
        "delete" => delete::delete(call).await,
        "deletecollection" => delete::collection(call).await,
        _ => Err(Status::method_not_supported()),
    }
}
