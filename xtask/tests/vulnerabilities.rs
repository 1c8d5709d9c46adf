//! Every test that `docs/vulnerabilities.md` names is there, and every class names some.

use std::path::Path;

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let page = read("docs/vulnerabilities.md");
    let classes: Vec<_> = page.split("\n## ").skip(1).collect();
    assert_eq!(classes.len(), 20);
    for (number, class) in (1..).zip(classes) {
        let title = class.lines().next().unwrap_or_default();
        assert!(title.starts_with(&format!("{number}. ")), "class {number}: {title}");
        let named: Vec<_> = class.lines().filter_map(|line| line.strip_prefix("- `")).collect();
        assert!(!named.is_empty(), "{title}: no test");
        for test in named {
            let (path, name) = test.strip_suffix('`').and_then(|t| t.split_once("::")).expect(test);
            let source = read(path);
            let at = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("no {test}"));
            // It is run as a test: an attribute right before it, or a name that a table of tests has.
            let before = source[..at].trim_end().trim_end_matches("async").trim_end();
            let listed = source.matches(name).count() > 1;
            assert!(before.ends_with(']') || listed, "{test} is not run");
        }
    }
}
