//! What a function may ask of the run it is part of.

use std::rc::Rc;

use druse_object::Value;

use crate::val::Val;

/// Why a function failed; the executor adds the template's name and line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FuncError(pub String);

impl FuncError {
    /// From a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A function as templates call it: arguments evaluated, the piped one last.
pub type NativeFn = fn(&mut Env<'_>, &[Val]) -> Result<Val, FuncError>;

/// What the outside world answers to functions that ask it. Deterministic unless the caller wants otherwise.
pub trait Host {
    /// Random bytes for the `count`-th random call (from 0) of `function` in `template`. Seeded hosts derive them from
    /// these three and the unit, so an inserted line changes nothing else.
    fn random(&self, template: &str, function: &str, count: u32, out: &mut [u8]);
    /// Now, in nanoseconds since 1970.
    fn now_unix_nanos(&self) -> i128;
    /// `lookup`: an object or a list (`{"items": […]}`), an empty map when there is none or no cluster to ask.
    ///
    /// # Errors
    /// When the cluster that should answer could not.
    fn lookup(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String>;
    /// `getHostByName`: an address, or an empty string where names are not resolved (Helm's own default).
    fn resolve_host(&self, name: &str) -> String;
}

/// What the executor offers functions: named templates, template text run anew, and the host.
pub trait Executor {
    /// `include`: runs a named template on `data` and returns its output.
    ///
    /// # Errors
    /// When there is no such template, or it fails, worded as Helm's `include` words it: hand it on unchanged, so that
    /// the executor knows it again and keeps the chain of errors.
    fn include(&mut self, name: &str, data: Val) -> Result<String, FuncError>;
    /// `tpl`: parses `text` and runs it on `data` beside the other templates; `<no value>` is removed from the output.
    ///
    /// # Errors
    /// When the text does not parse or fails, worded as Helm's `tpl` words it: hand it on unchanged.
    fn tpl(&mut self, text: &str, data: Val) -> Result<String, FuncError>;
    /// The template being run, for seeding and messages.
    fn template_name(&self) -> Rc<str>;
    /// How often `function` has been called in the current template so far (counts up).
    fn call_count(&mut self, function: &'static str) -> u32;
}

/// The environment of one function call.
pub struct Env<'a> {
    /// The executor, for `include`, `tpl` and seeding.
    pub exec: &'a mut dyn Executor,
    /// The outside world.
    pub host: &'a dyn Host,
    /// Helm's lint mode: `required` and `fail` do not fail.
    pub lint: bool,
}

impl Env<'_> {
    /// Seeded random bytes for this call of `function`.
    pub fn random(&mut self, function: &'static str, out: &mut [u8]) {
        let count = self.exec.call_count(function);
        let template = self.exec.template_name();
        self.host.random(&template, function, count, out);
    }
}
