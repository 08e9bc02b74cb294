//! The Common Expression Language as Kubernetes uses it: CRD validation rules and admission policies.
//!
//! Implements the language of `cel-spec` with the macros, the optional syntax, the string, list, set, regex, quantity,
//! URL, IP, format and version libraries of the Kubernetes environment. Expressions are checked as cel-go's checker does
//! ([`check`]), and what they may cost at most is estimated ([`cost`]); values are dynamic. Every step costs; an
//! evaluation that exceeds its budget stops with an error. Not implemented: custom protobuf messages, locale formatting.

mod check;
mod core;
mod cost;
mod eval;
mod funcs;
mod lex;
mod libs;
mod lists;
mod named;
mod parse;
#[cfg(test)]
mod tests;
mod types;
mod validators;
mod value;

use std::collections::HashMap;
use std::sync::Arc;

use druse_object::Value;
use parking_lot::RwLock;

use crate::schema::{Node, Rule, RuleEvaluator, Verdict};
pub(crate) use check::Scope;
pub(crate) use cost::Sizes;
pub(crate) use libs::parse_duration;
pub(crate) use parse::WORDS;
pub(crate) use types::Type;
pub use value::{Native, Val};

/// What a request's expressions may cost together when nobody says otherwise.
pub const DEFAULT_BUDGET: u64 = 10_000_000;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CelError(pub String);

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Program {
    root: Arc<parse::Expr>,
}

impl Program {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is wrong with it and where.
    pub fn compile(text: &str) -> Result<Self, CelError> {
        parse::parse(text).map(|root| Self { root: Arc::new(root) })
    }

    /// The types of the expression's parts when these are the variables.
    ///
    /// # Errors
    /// All that is wrong, as cel-go words it.
    pub(crate) fn check(&self, text: &str, scope: &Scope) -> Result<Checked, CelError> {
        check::check(&self.root, text, scope).map(Checked).map_err(CelError)
    }

    /// Whether the expression reads a variable of this name.
    #[must_use]
    pub fn reads(&self, variable: &str) -> bool {
        parse::reads(&self.root, variable)
    }

    /// Evaluates with variables; `budget` is lowered by what it cost.
    ///
    /// # Errors
    /// When the expression has no value (a missing key, a wrong type) or the budget is used up.
    pub fn eval<'a>(&self, variables: &[(&str, Val<'a>)], budget: &mut u64) -> Result<Val<'a>, CelError> {
        eval::eval(&self.root, variables, budget)
    }

    /// Evaluates to a boolean.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when the value is no boolean.
    pub fn eval_bool(&self, variables: &[(&str, Val<'_>)], budget: &mut u64) -> Result<bool, CelError> {
        match self.eval(variables, budget)? {
            Val::Bool(b) => Ok(b),
            other => Err(CelError(format!("expected a bool, got {}", other.type_name()))),
        }
    }
}

/// An expression whose types are known.
pub(crate) struct Checked(check::Checked);

impl Checked {
    /// The type of its result.
    pub(crate) fn output(&self) -> &Type {
        self.0.output()
    }

    /// Whether its constants are values: those that conversions and patterns are made of are looked at ahead of time.
    ///
    /// # Errors
    /// What is wrong with the first.
    pub(crate) fn constants(&self) -> Result<(), CelError> {
        validators::constants(&self.0.tree)
    }

    /// The most it may cost when values are so large.
    pub(crate) fn most(&self, sizes: &dyn Sizes) -> u64 {
        cost::estimate(&self.0, sizes).max
    }
}

/// How many parsed expressions are kept.
const CACHE: usize = 10_000;

/// Judges the rules of custom types.
#[derive(Default)]
pub struct CelRules {
    programs: RwLock<HashMap<String, Result<Program, CelError>>>,
}

impl CelRules {
    /// An evaluator with nothing parsed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn program(&self, text: &str) -> Result<Program, CelError> {
        if let Some(found) = self.programs.read().get(text) {
            return found.clone();
        }
        let made = Program::compile(text);
        let mut programs = self.programs.write();
        if programs.len() >= CACHE {
            programs.clear();
        }
        programs.insert(text.to_string(), made.clone());
        made
    }
}

impl RuleEvaluator for CelRules {
    fn is_transition(&self, rule: &Rule) -> bool {
        self.program(&rule.rule).is_ok_and(|p| p.reads("oldSelf"))
    }

    fn evaluate(&self, rule: &Rule, value: &Value, old: Option<&Value>, node: &Node, budget: &mut u64) -> Verdict {
        let program = match self.program(&rule.rule) {
            Ok(p) => p,
            Err(e) => return Verdict::Error(format!("rule compile error: compilation failed: {e}")),
        };
        let mut variables = vec![("self", Val::typed(value, node))];
        if rule.optional_old_self {
            variables.push(("oldSelf", Val::optional(old.map(|o| Val::typed(o, node)))));
        } else if let Some(old) = old {
            variables.push(("oldSelf", Val::typed(old, node)));
        }
        match program.eval_bool(&variables, budget) {
            Ok(true) => Verdict::Holds,
            Ok(false) => {
                let message = rule.message_expression.as_ref().and_then(|text| {
                    match self.program(text).ok()?.eval(&variables, budget).ok()? {
                        Val::Str(s) if !s.trim().is_empty() && !s.contains('\n') => Some(s.trim().to_string()),
                        _ => None,
                    }
                });
                Verdict::Fails(message)
            }
            Err(e) if *budget == 0 => Verdict::Error(format!("{e}")),
            Err(e) => Verdict::Error(format!("{e} evaluating rule: {}", rule.message.as_deref().unwrap_or(&rule.rule))),
        }
    }
}
