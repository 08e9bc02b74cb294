//! Sets of named templates: parsed once, shared, run many times.

use std::sync::Arc;

use druse_object::Str;

use super::error::TemplateError;
use super::func::FuncMap;
use super::run::Run;
use crate::Table;
use crate::env::Host;
use crate::parse::{self, Tree};
use crate::strconv;
use crate::val::Val;

/// The name of Helm's empty root template: error texts and `tpl` texts bear it.
pub(crate) const ROOT: &str = "gotpl";

/// How a run behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Helm's lint mode, passed on to functions.
    pub lint: bool,
    /// A map key that is missing is an error (`missingkey=error`); otherwise it is nil (`missingkey=zero`).
    pub strict: bool,
    /// Leave `<no value>` in the output, as Go does; Helm removes it.
    pub keep_no_value: bool,
}

/// Named templates that can call each other. Clones share what is parsed.
#[derive(Clone, Debug)]
pub struct TemplateSet {
    pub(crate) funcs: FuncMap,
    pub(crate) trees: Arc<Table<Str, Arc<Tree>>>,
}

impl TemplateSet {
    /// An empty set whose templates can call `funcs`.
    #[must_use]
    pub fn new(funcs: &FuncMap) -> Self {
        Self { funcs: funcs.clone(), trees: Arc::default() }
    }

    /// Parses `text` as template `name` and adds it and what it defines. A later definition replaces an earlier one,
    /// unless it is empty (nothing but space, comments and definitions).
    ///
    /// # Errors
    /// A syntax error or an unknown function; nothing is added then.
    pub fn parse(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        self.add(parse::parse(name, text, &self.funcs)?);
        Ok(())
    }

    /// Adds templates parsed by [`parse::parse`] with the same functions, by the rules of [`Self::parse`]. Parsed
    /// charts can be kept and added to many sets.
    pub fn add(&mut self, trees: impl IntoIterator<Item = Arc<Tree>>) {
        let map = Arc::make_mut(&mut self.trees);
        for tree in trees {
            if !(tree.empty && map.contains_key(&tree.name)) {
                map.insert(tree.name.clone(), tree);
            }
        }
    }

    /// Whether there is a template of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.trees.contains_key(name)
    }

    /// The names of all templates, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Str> {
        let mut names: Vec<Str> = self.trees.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Runs template `name` on `data`. Deep recursion needs [`crate::with_stack`] around it, or ends in an error early.
    ///
    /// # Errors
    /// Whatever Go's `ExecuteTemplate` reports; the output so far is dropped.
    pub fn execute(&self, name: &str, data: Val, host: &dyn Host, opts: Options) -> Result<String, TemplateError> {
        let Some(tree) = self.trees.get(name).cloned() else {
            return Err(TemplateError::plain(not_associated(name)));
        };
        let out = Run::new(self, name, host, opts).finish(&tree, data).map_err(|e| *e)?;
        Ok(if opts.keep_no_value { out } else { strip_no_value(out) })
    }
}

/// Go's message for a name that has no template.
pub(crate) fn not_associated(name: &str) -> String {
    format!("no template {} associated with template {}", strconv::quote(name), strconv::quote(ROOT))
}

/// Helm's treatment of values that are not there.
pub(crate) fn strip_no_value(out: String) -> String {
    if out.contains("<no value>") { out.replace("<no value>", "") } else { out }
}
