//! Good files, bad files, and those that we ship.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{table::Skipped, *};

const SKILLS: &[&str] = SHAPES[2].1;

fn entities() -> HashSet<String> {
    ["e1", "e2"].map(str::to_owned).into()
}

fn parse(file: &[u8]) -> (Value, Vec<(u64, Skipped)>) {
    let (table, skipped) = Table::parse(SKILLS, file, Some(&entities()));
    (json!(table), skipped)
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn text(reference: &Reference, name: &str) -> String {
    String::from_utf8(reference.get(name).unwrap().to_vec()).unwrap()
}

#[test]
fn rows_are_objects_of_texts_and_nulls_in_the_order_of_the_file() {
    let file = "\u{feff}id,entity_id,name,description\r\n2,e1,\"Eye, of \"\"the\"\" hawk\",\"two\r\nlines\"\r\n\r\n1,e2,,“curly” — 38\r\n";
    let (rows, skipped) = parse(file.as_bytes());
    assert_eq!(skipped, []);
    assert_eq!(
        rows.to_string(),
        json!([
            { "id": "2", "entity_id": "e1", "name": "Eye, of \"the\" hawk", "description": "two\r\nlines" },
            { "id": "1", "entity_id": "e2", "name": null, "description": "“curly” — 38" },
        ])
        .to_string()
    );
}

#[test]
fn columns_are_found_by_their_names_and_others_are_left_out() {
    let (table, skipped) = Table::parse(SKILLS, b"name,note,id,description,entity_id\nn,x,1,d,e1\n", Some(&entities()));
    assert_eq!(skipped, []);
    let text = serde_json::to_string(&table).unwrap();
    assert_eq!(text, r#"[{"id":"1","entity_id":"e1","name":"n","description":"d"}]"#);
}

#[test]
fn a_bad_row_is_skipped_with_its_line_and_no_other_is() {
    let file = b"id,entity_id,name,description\n1,e1,a,b\n1,e2,again,\n2,e3,nobody's,\n3,,nobody's,\n4,e1,short\n5,e1,a,b,long\n\
        ,e1,no id,\n6,e1,\"two\nlines\",\n7,e1,\xff,\n8,e2,last,\n3,e2,its id was never taken,\n";
    let (rows, skipped) = parse(file);
    let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "two\nlines", "last", "its id was never taken"]);
    let expected = [
        (3, Skipped::Twice("1".to_owned()), "id \"1\" is there already"),
        (4, Skipped::NoEntity("e3".to_owned()), "no entity has id \"e3\""),
        (5, Skipped::NoEntity(String::new()), "no entity has id \"\""),
        (6, Skipped::Missing("description"), "it has no column description"),
        (7, Skipped::Fields(5, 4), "it has 5 fields, but the header 4"),
        (8, Skipped::NoId, "its id is empty"),
        (11, Skipped::NotText("name"), "name is not UTF-8"),
    ];
    for ((line, reason, says), found) in expected.iter().zip(&skipped) {
        assert_eq!((line, reason, *says), (&found.0, &found.1, found.1.to_string().as_str()));
    }
    assert_eq!(skipped.len(), expected.len());
}

#[test]
fn a_header_without_a_column_leaves_no_row() {
    let (rows, skipped) = parse(b"id,entity_id,name\n1,e1,a\n2,e2,b\n");
    assert_eq!(rows, json!([]));
    assert_eq!(skipped, [(2, Skipped::Missing("description")), (3, Skipped::Missing("description"))]);
    for empty in [&b""[..], b"\n\n", b"id,entity_id,name,description", b"id,entity_id,name,description\r\n"] {
        assert_eq!(parse(empty), (json!([]), vec![]), "{empty:?}");
    }
}

#[test]
fn files_that_are_missing_or_can_t_be_read_are_empty_tables_and_the_others_are_not() {
    let files = folder(&[
        ("entities.csv", b"id,name,type,age,role,backstory_path,portrait_path\ne1,Ada,player,\xe2\x80\x94,,,\n"),
        ("skills.csv", b"id,entity_id,name,description\n1,e1,Listening,\n2,e9,Nobody's,\n"),
        ("specials.csv", &vec![b'\n'; 5 << 20]),
    ]);
    std::fs::create_dir(files.path().join("equipment.csv")).unwrap();
    let reference = Reference::load(Some(files.path()));
    assert_eq!(
        text(&reference, "entities"),
        r#"{"entities":[{"id":"e1","name":"Ada","type":"player","age":"—","role":null,"backstory_path":null,"portrait_path":null}]}"#
    );
    let skill = r#"{"skills":[{"id":"1","entity_id":"e1","name":"Listening","description":null}]}"#;
    assert_eq!(text(&reference, "skills"), skill);
    assert_eq!(
        (text(&reference, "equipment"), text(&reference, "specials")),
        (r#"{"equipment":[]}"#.into(), r#"{"specials":[]}"#.into())
    );
    assert_eq!((reference.get("Skills"), reference.get("skills.csv"), reference.get("")), (None, None, None));
    for empty in [Reference::load(None), Reference::load(Some(&files.path().join("none"))), Reference::default()] {
        for (name, _) in SHAPES {
            assert_eq!(text(&empty, name), format!(r#"{{"{name}":[]}}"#));
        }
    }
}

#[test]
fn without_entities_nothing_can_be_of_one() {
    let files = folder(&[("skills.csv", b"id,entity_id,name,description\n1,e1,Listening,\n")]);
    assert_eq!(text(&Reference::load(Some(files.path())), "skills"), r#"{"skills":[]}"#);
}

#[test]
fn the_data_that_we_ship_is_whole() {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut all: Option<HashSet<String>> = None;
    for (name, columns) in SHAPES {
        let file = contents(&home.join("data").join(name).with_extension("csv")).unwrap();
        let (table, skipped) = Table::parse(columns, &file, all.as_ref());
        assert_eq!(skipped, [], "{name}");
        let rows = json!(table);
        let rows = rows.as_array().unwrap();
        assert!(!rows.is_empty(), "{name}");
        for row in rows {
            assert!(uuid::Uuid::parse_str(row["id"].as_str().unwrap()).is_ok(), "{row}");
            // What it names is served beside the page.
            for path in ["backstory_path", "portrait_path"].map(|path| &row[path]).into_iter().filter_map(Value::as_str)
            {
                assert!(home.join("page/site").join(path).is_file(), "{path}");
            }
        }
        all.get_or_insert_with(|| table.ids());
    }
}
