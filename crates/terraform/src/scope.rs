//! A module at work: its declarations, the inputs it was given, and what has been evaluated of it so far.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use druse_kustomize::tree::{FileTree, join};
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Structure};

use crate::Options;
use crate::eval::Env;
use crate::functions::json_or_yaml;
use crate::load::{Decl, FileInfo, LoadError, files, local_source, parse, read};
use crate::value::{Kind, Value};

/// An expression with its file.
pub(crate) struct Expr {
    pub(crate) expression: Expression,
    pub(crate) file: Rc<FileInfo>,
}

/// What names a resource.
pub(crate) type Name = (bool, String, String);

/// Which of a resource's or module's instances.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    /// The only one.
    None,
    /// Of `count`.
    Count(usize),
    /// Of `for_each`, with its value.
    Each(String, Value),
}

impl Key {
    pub(crate) fn suffix(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Count(n) => format!("[{n}]"),
            Self::Each(k, _) => format!("[{k:?}]"),
        }
    }
}

/// The instances of a resource or module; `None` when their number is not known.
pub(crate) type Keys = Option<Vec<Key>>;

/// How many instances are evaluated of one declaration.
const MAX_INSTANCES: usize = 10_000;
/// How deep modules may use modules.
const MAX_MODULES: usize = 20;

pub(crate) struct Scope<'t> {
    pub(crate) tree: &'t dyn FileTree,
    pub(crate) options: &'t Options,
    pub(crate) folder: String,
    pub(crate) root: String,
    pub(crate) address: String,
    depth: usize,
    variables: BTreeMap<String, Rc<Decl>>,
    locals: BTreeMap<String, Rc<Expr>>,
    pub(crate) resources: BTreeMap<Name, Rc<Decl>>,
    pub(crate) modules: BTreeMap<String, Rc<Decl>>,
    outputs: BTreeMap<String, Rc<Decl>>,
    providers: Vec<Rc<Decl>>,
    inputs: BTreeMap<String, Value>,
    /// Region and account of the module that uses this one.
    inherited: Option<(Value, Value)>,
    memo: RefCell<HashMap<String, Option<Value>>>,
    children: RefCell<HashMap<String, Option<Rc<Children<'t>>>>>,
}

type Children<'t> = Vec<(Key, Rc<Scope<'t>>)>;

impl<'t> Scope<'t> {
    /// Reads a module. Files that cannot be parsed are left out and reported.
    pub(crate) fn load(
        tree: &'t dyn FileTree,
        options: &'t Options,
        folder: &str,
        errors: &mut Vec<LoadError>,
    ) -> Self {
        let mut scope = Scope {
            tree,
            options,
            folder: folder.to_string(),
            root: folder.to_string(),
            address: String::new(),
            depth: 0,
            variables: BTreeMap::new(),
            locals: BTreeMap::new(),
            resources: BTreeMap::new(),
            modules: BTreeMap::new(),
            outputs: BTreeMap::new(),
            providers: Vec::new(),
            inputs: BTreeMap::new(),
            inherited: None,
            memo: RefCell::default(),
            children: RefCell::default(),
        };
        for name in files(tree, folder) {
            let path = join(folder, &name).unwrap_or(name);
            let Some(text) = read(tree, &path) else { continue };
            match parse(&path, &text) {
                Ok((body, file)) => body.into_iter().for_each(|s| scope.add(s, &file)),
                Err(e) => errors.push(e),
            }
        }
        scope
    }

    fn add(&mut self, structure: Structure, file: &Rc<FileInfo>) {
        let Structure::Block(block) = structure else { return };
        let decl = Decl { block, file: file.clone() };
        let (first, second) = (decl.label(0).to_string(), decl.label(1).to_string());
        match decl.block.ident.as_str() {
            "variable" => drop(self.variables.insert(first, Rc::new(decl))),
            "output" => drop(self.outputs.insert(first, Rc::new(decl))),
            "module" => drop(self.modules.insert(first, Rc::new(decl))),
            "provider" => self.providers.push(Rc::new(decl)),
            "resource" => drop(self.resources.insert((false, first, second), Rc::new(decl))),
            "data" => drop(self.resources.insert((true, first, second), Rc::new(decl))),
            "locals" => {
                for structure in decl.block.body {
                    if let Structure::Attribute(a) = structure {
                        let name = a.key.as_str().to_string();
                        self.locals.insert(name, Rc::new(Expr { expression: a.value, file: file.clone() }));
                    }
                }
            }
            _ => {}
        }
    }

    /// Gives the root module the values of `terraform.tfvars` and `*.auto.tfvars`, in Terraform's order.
    pub(crate) fn read_tfvars(&mut self, errors: &mut Vec<LoadError>) {
        let names = self.tree.list(&self.folder).unwrap_or_default();
        let first = ["terraform.tfvars", "terraform.tfvars.json"].map(str::to_string).into_iter();
        let auto = names.iter().filter(|n| n.ends_with(".auto.tfvars") || n.ends_with(".auto.tfvars.json")).cloned();
        let wanted: Vec<String> = first.filter(|n| names.contains(n)).chain(auto).collect();
        for name in wanted {
            let path = join(&self.folder, &name).unwrap_or_default();
            let Some(text) = read(self.tree, &path) else { continue };
            if std::path::Path::new(&name).extension().is_some_and(|e| e == "json") {
                let file = FileInfo::new(&path, &text);
                if let Kind::Map(m) = json_or_yaml(&text, false, file.place(Some(0..0)).as_ref()).kind {
                    self.inputs.extend(m);
                }
                continue;
            }
            match parse(&path, &text) {
                Ok((body, file)) => {
                    let values: Vec<(String, Value)> = body
                        .attributes()
                        .map(|a| (a.key.as_str().to_string(), Env::new(self, &file).eval(&a.value)))
                        .collect();
                    self.inputs.extend(values);
                }
                Err(e) => errors.push(e),
            }
        }
    }

    /// Evaluates something once; a value that needs itself is unknown.
    fn once(&self, key: String, evaluate: impl FnOnce() -> Value) -> Value {
        if let Some(known) = self.memo.borrow().get(&key) {
            return known.clone().unwrap_or_else(|| Value::unknown(format!("{key} needs itself")));
        }
        self.memo.borrow_mut().insert(key.clone(), None);
        let value = evaluate();
        self.memo.borrow_mut().insert(key, Some(value.clone()));
        value
    }

    pub(crate) fn variable(&self, name: &str) -> Value {
        if let Some(given) = self.inputs.get(name) {
            return given.clone();
        }
        let Some(decl) = self.variables.get(name) else { return Value::unknown(format!("var.{name} is not declared")) };
        match decl.block.body.get_attribute("default") {
            Some(a) => self.once(format!("var.{name}"), || Env::new(self, &decl.file).eval(&a.value)),
            None => Value::unknown(format!("var.{name} has no value")).at(decl.place()),
        }
    }

    pub(crate) fn local(&self, name: &str) -> Value {
        let Some(e) = self.locals.get(name) else { return Value::unknown(format!("local.{name} is not declared")) };
        self.once(format!("local.{name}"), || Env::new(self, &e.file).eval(&e.expression))
    }

    /// Region or account (`which`) as the default provider says, as the using module says, or as the options say.
    fn provider(&self, which: &str) -> Value {
        let default = |d: &&Rc<Decl>| d.label(0) == "aws" && d.block.body.get_attribute("alias").is_none();
        let decl = self.providers.iter().find(default);
        let attribute = |name: &str| {
            let d = decl?;
            let a = d.block.body.get_attribute(name)?;
            Some(Env::new(self, &d.file).eval(&a.value))
        };
        let (own, option) = match which {
            "region" => (attribute("region"), &self.options.region),
            _ => (attribute("allowed_account_ids").filter(|v| v.items().len() == 1), &self.options.account_id),
        };
        let own = own.and_then(|v| v.items().first().cloned()).filter(|v| !v.is_null());
        let inherited = || {
            let (region, account) = self.inherited.as_ref()?;
            Some(if which == "region" { region.clone() } else { account.clone() })
        };
        let settled = own.or_else(inherited).or_else(|| option.as_deref().map(Value::string));
        settled.unwrap_or_else(|| Value::unknown(format!("the {which} is not settled by the configuration")))
    }

    pub(crate) fn region(&self) -> Value {
        self.once("provider.region".into(), || self.provider("region"))
    }

    pub(crate) fn account(&self) -> Value {
        self.once("provider.account".into(), || self.provider("account"))
    }

    /// The instances that `count` and `for_each` make.
    pub(crate) fn keys(&self, decl: &Decl) -> Keys {
        let body = &decl.block.body;
        let eval = |a: &Attribute| Env::new(self, &decl.file).eval(&a.value);
        if let Some(count) = body.get_attribute("count").map(eval) {
            let n = count.number()?;
            let n = crate::value::whole(n).and_then(|n| usize::try_from(n).ok())?;
            return (n <= MAX_INSTANCES).then(|| (0..n).map(Key::Count).collect());
        }
        let Some(each) = body.get_attribute("for_each").map(eval) else { return Some(vec![Key::None]) };
        match each.kind {
            Kind::Map(m) => Some(m.into_iter().map(|(k, v)| Key::Each(k, v)).collect()),
            Kind::List(items) => items
                .into_iter()
                .map(|v| v.is_whole().then(|| v.text()).flatten().map(|k| Key::Each(k, v.clone())))
                .collect(),
            _ => None,
        }
    }

    /// A resource's declaration and its instances.
    pub(crate) fn resource(&self, name: &Name) -> Option<(Rc<Decl>, Keys)> {
        let decl = self.resources.get(name)?.clone();
        let keys = self.keys(&decl);
        Some((decl, keys))
    }

    /// The instances of a local module; `None` when it is remote or their number is not known.
    pub(crate) fn child(&self, name: &str, errors: &mut Vec<LoadError>) -> Option<Rc<Children<'t>>> {
        if let Some(known) = self.children.borrow().get(name) {
            return known.clone();
        }
        self.children.borrow_mut().insert(name.to_string(), None);
        let made = self.make_children(name, errors).map(Rc::new);
        self.children.borrow_mut().insert(name.to_string(), made.clone());
        made
    }

    fn make_children(&self, name: &str, errors: &mut Vec<LoadError>) -> Option<Children<'t>> {
        let decl = self.modules.get(name)?;
        let source = decl.block.body.get_attribute("source")?.value.as_str()?;
        let folder = local_source(&self.folder, source)?;
        if self.depth >= MAX_MODULES {
            return None;
        }
        let keys = self.keys(decl)?;
        let mut children = Vec::new();
        for key in keys {
            let mut child = Scope::load(self.tree, self.options, &folder, errors);
            child.root = self.root.clone();
            child.depth = self.depth + 1;
            child.address = format!("{}module.{name}{}.", self.address, key.suffix());
            child.inherited = Some((self.region(), self.account()));
            let env = Env::new(self, &decl.file).with_key(&key);
            for a in decl.block.body.attributes() {
                if !matches!(a.key.as_str(), "source" | "version" | "count" | "for_each" | "providers" | "depends_on") {
                    child.inputs.insert(a.key.as_str().to_string(), env.eval(&a.value));
                }
            }
            children.push((key, Rc::new(child)));
        }
        Some(children)
    }

    /// A module's output.
    pub(crate) fn output(&self, name: &str) -> Value {
        let Some(decl) = self.outputs.get(name) else { return Value::unknown(format!("there is no output {name}")) };
        match decl.block.body.get_attribute("value") {
            Some(a) => self.once(format!("output.{name}"), || Env::new(self, &decl.file).eval(&a.value)),
            None => Value::null(),
        }
    }

    pub(crate) fn output_names(&self) -> impl Iterator<Item = &String> {
        self.outputs.keys()
    }

    /// An attribute of a resource's instance: as written, or as AWS' provider computes it.
    pub(crate) fn attribute(&self, name: &Name, decl: &Rc<Decl>, key: &Key, attribute: &str) -> Value {
        let (data, kind, label) = name;
        let id = format!("{}{kind}.{label}{}.{attribute}", if *data { "data." } else { "" }, key.suffix());
        self.once(id, || {
            let env = Env::new(self, &decl.file).with_key(key);
            let written = |n: &str| {
                let a = decl.block.body.get_attribute(n)?;
                Some(env.eval(&a.value)).filter(|v| !v.is_null())
            };
            let label = format!("{label}{}", key.suffix());
            crate::aws::attribute(self, (*data, kind, &label), attribute, decl, &env, &written)
        })
    }
}
