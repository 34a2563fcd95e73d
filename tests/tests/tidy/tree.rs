//! The files of the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::code::Code;

/// Some files, each with its path from the workspace's root and its text.
pub(crate) struct Tree(Vec<(String, String)>);

impl Tree {
    /// All `.rs` files below `folders`; `*.md` stands for the documents in the root.
    pub(crate) fn of(folders: &[&str]) -> Self {
        let root = xtask::root();
        let mut paths = Vec::new();
        for folder in folders {
            match folder.strip_prefix('*') {
                Some(ending) => {
                    paths.extend(
                        entries(&root).into_iter().filter(|path| {
                            path.to_str().is_some_and(|path| path.ends_with(ending))
                        }),
                    );
                }
                None => rust_files(&root.join(folder), &mut paths),
            }
        }
        let file = |path: PathBuf| {
            let name = path
                .strip_prefix(&root)
                .expect("below the root")
                .to_str()
                .expect("UTF-8");
            let text = fs::read_to_string(&path).expect("readable text");
            (name.replace('\\', "/"), text)
        };
        let files: Vec<_> = paths.into_iter().map(file).collect();
        assert!(
            !files.is_empty(),
            "no files in {folders:?}: a rule over nothing always holds"
        );
        Self(files)
    }

    /// What a rule over the text of one file finds in all of them.
    pub(crate) fn check(&self, rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|(path, text)| rule(path, text))
            .collect()
    }

    /// The files without what is compiled for tests only.
    pub(crate) fn library(&self) -> Vec<Code> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .map(|(path, text)| Code::parse(path, text))
            .collect();
        let test_modules: Vec<_> = all
            .iter()
            .flat_map(|code| code.test_modules.clone())
            .collect();
        all.retain(|code| {
            !test_modules
                .iter()
                .any(|module| code.module.starts_with(module))
        });
        all
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
