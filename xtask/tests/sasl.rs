//! The matrix of `docs/protocols/sasl.md`: every cell says one of two things, and every case that it names is
//! there and is run; every mechanism of SCRAM, with channel binding and without, has its row.

use std::path::Path;

#[test]
fn every_cell_of_the_matrix_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let page = read("docs/protocols/sasl.md");
    let (_, matrix) = page.split_once("## Mechanism by front end").expect("the matrix");
    let mut rows = matrix.lines().filter(|line| line.starts_with('|'));
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let columns = cells(rows.next().expect("a head")).len();
    let mut mechanisms = Vec::new();
    for row in rows.skip(1) {
        let cells = cells(row);
        assert_eq!(cells.len(), columns, "{row}");
        for cell in &cells[1..] {
            let named: Vec<_> = cell.split('`').filter(|word| word.contains("::")).collect();
            match cell {
                works if works.starts_with("works with ") => {
                    assert!(!named.is_empty(), "{}: no case in `{works}`", cells[0]);
                }
                no if no.starts_with("impossible because ") => {}
                neither => panic!("{}: {neither}", cells[0]),
            }
            for case in named {
                let (path, name) = case.split_once("::").expect(case);
                let source = read(path);
                let at = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("no {case}"));
                // It is run: an attribute right before it, or a name that a table of cases has.
                let before = source[..at].trim_end().trim_end_matches("async").trim_end();
                let listed = source.contains(&format!(", {name})"));
                assert!(before.ends_with(']') || listed, "{case} is not run");
            }
        }
        mechanisms.push(cells[0].clone());
    }
    for name in ["EXTERNAL", "ANONYMOUS", "OAUTHBEARER", "XOAUTH2", "bearer", "publickey"] {
        assert!(mechanisms.iter().any(|known| known == name), "{name} has no row");
    }
    for hash in ["SHA-1", "SHA-256", "SHA-512"] {
        for plus in ["", "-PLUS"] {
            let name = format!("SCRAM-{hash}{plus}");
            assert!(mechanisms.contains(&name), "{name} has no row");
        }
    }
}

#[test]
fn every_statement_has_a_number_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let page = std::fs::read_to_string(root.join("docs/protocols/sasl.md")).expect("the page");
    let numbers = page.lines().filter_map(|line| line.strip_prefix("- **S")?.split("**").next());
    let numbers: Vec<u32> = numbers.map(|number| number.parse().expect(number)).collect();
    assert!(numbers.len() > 20 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
