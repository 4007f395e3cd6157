//! The wire, byte by byte: what is written is what is read, and what is not a request is refused with the right code.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use kvs_protocol::{
    Answer, BackupEnd, BackupPart, Change, Condition, Entry, ErrorCode, Info, Page, Request, RequestId, Response,
    Token, Verb, VerbName, WireError,
};

fn decode(line: &str) -> Result<Request, Response> {
    Request::decode(line.as_bytes())
}

fn refusal(line: &str) -> (ErrorCode, String, Option<RequestId>) {
    let response = decode(line).expect_err(line);
    let error = response.body.expect_err("a refusal is an error");
    (error.code, error.message, response.id)
}

fn encoded(request: &Request) -> String {
    let mut out = Vec::new();
    request.encode(&mut out);
    String::from_utf8(out).unwrap()
}

fn not_utf8_key() -> Vec<u8> {
    vec![0xff]
}

fn set_if(condition: Condition, old: bool) -> Request {
    Verb::SetIf { key: b"k".to_vec(), value: b"v".to_vec(), condition, old }.into()
}

fn scan(prefix: &[u8], cursor: Option<&str>, limit: Option<u32>, values: bool) -> Request {
    let cursor = cursor.map(str::to_owned);
    Verb::Scan { prefix: prefix.to_vec(), cursor, limit, values, numbered: false }.into()
}

#[test]
fn every_verb_has_a_name_that_is_read() {
    for name in VerbName::ALL {
        let refused = decode(&format!("{{\"{name}\":7}}")).expect_err("a number is no request's body");
        assert_eq!(refused.body.unwrap_err().code, ErrorCode::InvalidRequest, "{name}");
    }
}

#[test]
fn options_are_judged_like_every_other_field() {
    for (line, message) in [
        ("{\"scan\":{\"limit\":0},\"id\":7}", "`limit` is out of range"),
        ("{\"scan\":{\"limit\":-1},\"id\":7}", "a whole number from 1"),
        ("{\"scan\":{\"limit\":\"10\"},\"id\":7}", "a whole number from 1"),
        ("{\"scan\":{\"limit\":5000000000},\"id\":7}", "`limit` is out of range"),
        ("{\"scan\":{\"limit\":10001},\"id\":7}", "`limit` is out of range: it is 1 to 10000 entries"),
        ("{\"scan\":{\"values\":1},\"id\":7}", "true or false for `values`"),
        ("{\"scan\":{\"key\":\"k\"},\"id\":7}", "unknown field `key`"),
        ("{\"scan\":{\"prefix\":\"\",\"prefix64\":\"\"},\"id\":7}", "duplicate field `prefix`"),
        ("{\"info\":{\"prefix\":\"\"},\"id\":7}", "unknown field `prefix`"),
        ("{\"auth\":{},\"id\":7}", "missing field `token`"),
        ("{\"auth\":\"canary\",\"id\":7}", "an object with `token`"),
        ("{\"auth\":{\"canary\":\"canary\"},\"id\":7}", "unknown field `canary`"),
        ("{\"set\":{\"key\":\"k\",\"value\":\"v\",\"if\":\"absent\"},\"id\":7}", "unknown condition `absent`"),
        ("{\"set\":{\"key\":\"k\",\"value\":\"v\",\"old\":\"yes\"},\"id\":7}", "true or false for `old`"),
        ("{\"get\":{\"key\":\"k\",\"old\":true},\"id\":7}", "unknown field `old`"),
        ("{\"batch\":[{\"set\":{\"key\":\"k\",\"value\":\"v\",\"if\":\"missing\"}}],\"id\":7}", "a change in a batch"),
        ("{\"count\":{\"prefix\":\"\"},\"id\":7}", "unknown field"),
    ] {
        let (code, found, id) = refusal(line);
        assert_eq!((code, id), (ErrorCode::InvalidRequest, Some(RequestId::Number(7))), "{line}: {found}");
        assert!(found.contains(message), "{line}: {found}");
    }
}

#[test]
fn a_token_is_not_shown() {
    let request = Request { verb: Verb::Auth { token: Token::new("canary") }, id: None };
    assert!(!format!("{request:?}").contains("canary"));
    let (_, message, _) = refusal("{\"auth\":\"canary\"}");
    assert!(!message.contains("canary"), "{message}");
}

#[test]
fn every_request_is_written_in_one_way_and_read_back() {
    let not_utf8 = vec![0xff, 0x00, 0xfe];
    let stories: Vec<(Request, &str)> = vec![
        (Verb::Ping.into(), "{\"ping\":{}}\n"),
        (Verb::Get { key: b"k".to_vec() }.into(), "{\"get\":{\"key\":\"k\"}}\n"),
        (Verb::Get { key: not_utf8.clone() }.into(), "{\"get\":{\"key64\":\"/wD+\"}}\n"),
        (Verb::Exists { key: b"k".to_vec() }.into(), "{\"exists\":{\"key\":\"k\"}}\n"),
        (Verb::Remove { key: b"k".to_vec() }.into(), "{\"rm\":{\"key\":\"k\"}}\n"),
        (
            Verb::Set { key: "ключ\n".into(), value: b"\"\\\x01".to_vec() }.into(),
            "{\"set\":{\"key\":\"ключ\\n\",\"value\":\"\\\"\\\\\\u0001\"}}\n",
        ),
        (Verb::Set { key: b"".to_vec(), value: not_utf8 }.into(), "{\"set\":{\"key\":\"\",\"value64\":\"/wD+\"}}\n"),
        (
            Verb::Batch(vec![
                Change::Set { key: b"a".to_vec(), value: b"1".to_vec() },
                Change::Remove { key: b"b".to_vec() },
            ])
            .into(),
            "{\"batch\":[{\"set\":{\"key\":\"a\",\"value\":\"1\"}},{\"rm\":{\"key\":\"b\"}}]}\n",
        ),
        (Verb::Length { key: b"k".to_vec() }.into(), "{\"length\":{\"key\":\"k\"}}\n"),
        (Verb::Take { key: not_utf8_key() }.into(), "{\"take\":{\"key64\":\"/w==\"}}\n"),
        (set_if(Condition::Missing, false), "{\"set\":{\"key\":\"k\",\"value\":\"v\",\"if\":\"missing\"}}\n"),
        (
            set_if(Condition::Present, true),
            "{\"set\":{\"key\":\"k\",\"value\":\"v\",\"if\":\"present\",\"old\":true}}\n",
        ),
        (set_if(Condition::Always, true), "{\"set\":{\"key\":\"k\",\"value\":\"v\",\"old\":true}}\n"),
        (set_if(Condition::Always, false), "{\"set\":{\"key\":\"k\",\"value\":\"v\",\"old\":false}}\n"),
        (scan(b"", None, None, true), "{\"scan\":{\"prefix\":\"\"}}\n"),
        (
            scan(b"\xff", Some("aGVs"), Some(10), false),
            "{\"scan\":{\"prefix64\":\"/w==\",\"cursor\":\"aGVs\",\"limit\":10,\"values\":false}}\n",
        ),
        (Verb::Count.into(), "{\"count\":{}}\n"),
        (Verb::Clear.into(), "{\"clear\":{}}\n"),
        (Verb::Backup.into(), "{\"backup\":{}}\n"),
        (Verb::Info { section: None }.into(), "{\"info\":{}}\n"),
        (Verb::Info { section: Some("store".into()) }.into(), "{\"info\":{\"section\":\"store\"}}\n"),
        (Verb::Auth { token: Token::new("t\"") }.into(), "{\"auth\":{\"token\":\"t\\\"\"}}\n"),
        (Verb::Auth { token: Token::new([0xff]) }.into(), "{\"auth\":{\"token64\":\"/w==\"}}\n"),
        (
            Request { verb: Verb::Get { key: b"k".to_vec() }, id: Some(RequestId::Number(u64::MAX)) },
            "{\"get\":{\"key\":\"k\"},\"id\":18446744073709551615}\n",
        ),
        (Request { verb: Verb::Ping, id: Some(RequestId::Text("a\"b".into())) }, "{\"ping\":{},\"id\":\"a\\\"b\"}\n"),
    ];
    for (request, line) in stories {
        assert_eq!(encoded(&request), line);
        assert_eq!(decode(line.trim_end_matches('\n')).unwrap(), request, "{line}");
    }
}

#[test]
fn what_other_writers_may_send_is_read() {
    let get = |key: &str| Request::from(Verb::Get { key: key.into() });
    assert_eq!(decode(" { \"get\" : { \"key\" : \"\\u006b\" } } \r").unwrap(), get("k"));
    assert_eq!(decode("{\"\\u0067et\":{\"key64\":\"aw==\"}}").unwrap(), get("k"));
    let with_id = decode("{\"id\":1,\"get\":{\"key\":\"k\"}}").unwrap();
    assert_eq!(with_id.id, Some(RequestId::Number(1)), "the id may come first");
}

#[test]
fn unknown_fields_are_refused_with_and_without_an_id() {
    for (line, word, id) in [
        ("{\"get\":{\"key\":\"k\",\"ttl\":1}}", "`ttl`", None),
        ("{\"get\":{\"key\":\"k\",\"ttl\":1},\"id\":7}", "`ttl`", Some(RequestId::Number(7))),
        ("{\"id\":7,\"get\":{\"key\":\"k\"},\"ttl\":1}", "`ttl`", Some(RequestId::Number(7))),
        ("{\"get\":{\"key\":\"k\"},\"ttl\":1}", "`ttl`", None),
        ("{\"get\":{\"key\":\"k\",\"value\":\"v\"},\"id\":\"x\"}", "`value`", Some(RequestId::Text("x".into()))),
        ("{\"ping\":{\"key\":\"k\"}}", "`key`", None),
        (
            "{\"batch\":[{\"set\":{\"key\":\"k\",\"value\":\"v\",\"ttl\":1}}],\"id\":7}",
            "`ttl`",
            Some(RequestId::Number(7)),
        ),
    ] {
        let (code, message, found) = refusal(line);
        assert_eq!((code, found), (ErrorCode::InvalidRequest, id), "{line}: {message}");
        assert!(message.contains(&format!("unknown field {word}")), "{line}: {message}");
    }
}

#[test]
fn json_that_is_no_request_is_invalid_and_the_id_still_comes_back() {
    for line in [
        "{\"id\":7}",
        "{\"get\":{},\"id\":7}",
        "{\"get\":null,\"id\":7}",
        "{\"get\":[\"k\"],\"id\":7}",
        "{\"get\":\"k\",\"id\":7}",
        "{\"get\":{\"key\":5},\"id\":7}",
        "{\"get\":{\"key\":null},\"id\":7}",
        "{\"get\":{\"key\":\"k\",\"key\":\"k\"},\"id\":7}",
        "{\"get\":{\"key\":\"k\",\"key64\":\"aw==\"},\"id\":7}",
        "{\"get\":{\"key64\":\"not base64\"},\"id\":7}",
        "{\"get\":{\"key64\":\"aw\"},\"id\":7}",
        "{\"get\":{\"key\":\"k\"},\"rm\":{\"key\":\"k\"},\"id\":7}",
        "{\"set\":{\"key\":\"k\"},\"id\":7}",
        "{\"batch\":{},\"id\":7}",
        "{\"batch\":[{\"get\":{\"key\":\"k\"}}],\"id\":7}",
        "{\"batch\":[{\"batch\":[]}],\"id\":7}",
        "{\"batch\":[{\"rm\":{\"key\":\"k\"},\"id\":1}],\"id\":7}",
    ] {
        let (code, message, id) = refusal(line);
        assert_eq!(code, ErrorCode::InvalidRequest, "{line}: {message}");
        assert_eq!(id, Some(RequestId::Number(7)), "{line}: {message}");
    }
    for id in ["null", "-1", "1.5", "true", "[]", &format!("\"{}\"", "x".repeat(65))] {
        let (code, message, _) = refusal(&format!("{{\"ping\":{{}},\"id\":{id}}}"));
        assert_eq!(code, ErrorCode::InvalidRequest, "{id}: {message}");
    }
}

#[test]
fn a_batch_of_the_limit_passes_and_one_change_more_does_not() {
    let batch = |count: usize| {
        let changes = vec![Change::Remove { key: b"k".to_vec() }; count];
        encoded(&Request { verb: Verb::Batch(changes), id: Some(RequestId::Number(7)) })
    };
    assert!(decode(batch(10_000).trim_end()).is_ok());
    let (code, message, id) = refusal(batch(10_001).trim_end());
    assert_eq!((code, id), (ErrorCode::TooLarge, Some(RequestId::Number(7))));
    assert_eq!(message, "batch of 10001 changes is larger than the limit of 10000");
}

#[test]
fn an_unknown_verb_says_which_ones_there_are() {
    let (code, message, id) = refusal("{\"increment\":{\"key\":[[[]]]},\"id\":7}");
    assert_eq!((code, id), (ErrorCode::UnknownVerb, Some(RequestId::Number(7))));
    assert_eq!(
        message,
        "unknown verb `increment`; use one of `ping`, `auth`, `get`, `exists`, `length`, `set`, `take`, `rm`, `batch`, `scan`, `count`, `clear`, `info`, `backup`"
    );
    let (_, message, _) = refusal(&format!("{{\"{}\":1}}", "x".repeat(10_000)));
    assert!(message.len() < 200, "a stranger's word is not repeated in full: {message}");
}

#[test]
fn an_error_does_not_repeat_what_was_sent() {
    let long = "x".repeat(10_000);
    for line in [
        format!("\"{long}\""),
        format!("{{\"{long}\":1}}"),
        format!("{{\"ping\":{{}},\"{long}\":1}}"),
        format!("{{\"ping\":{{}},\"id\":\"{long}\"}}"),
        format!("{{\"ping\":\"{long}\"}}"),
        format!("{{\"get\":\"{long}\"}}"),
        format!("{{\"get\":{{\"{long}\":1}}}}"),
        format!("{{\"get\":{{\"key64\":\"{long}_\"}}}}"),
        format!("{{\"set\":{{\"key\":{{\"{long}\":1}}}}}}"),
        format!("{{\"batch\":\"{long}\"}}"),
        format!("{{\"batch\":[\"{long}\"]}}"),
        format!("{{\"get\":{{\"key\":{}}}}}", "9".repeat(10_000)),
        format!("{{\"scan\":{{\"{long}\":1}}}}"),
        format!("{{\"scan\":{{\"limit\":\"{long}\"}}}}"),
        format!("{{\"scan\":{{\"values\":\"{long}\"}}}}"),
        format!("{{\"info\":\"{long}\"}}"),
        format!("{{\"set\":{{\"if\":\"{long}\"}}}}"),
        format!("{{\"set\":{{\"old\":\"{long}\"}}}}"),
    ] {
        let (_, message, _) = refusal(&line);
        assert!(message.len() < 300, "{} bytes for {}..", message.len(), &line[..20]);
    }
}

#[test]
fn what_is_no_json_object_is_malformed() {
    for line in [
        "",
        "get k",
        "{",
        "{}x",
        "{\"get\"",
        "[]",
        "null",
        "\"get\"",
        "5",
        "{\"get\":{\"key\":\"\\ud800\"}}",
        "{\"get\":{\"key\":\"\u{1}\"}}",
    ] {
        let (code, message, _) = refusal(line);
        assert_eq!(code, ErrorCode::Malformed, "{line}: {message}");
        assert!(code.closes_connection());
    }
    let response = Request::decode(b"{\"get\":{\"key\":\"\xff\"}}").unwrap_err();
    assert_eq!(response.body.unwrap_err().code, ErrorCode::Malformed, "JSON is UTF-8");
    let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
    assert_eq!(refusal(&deep).0, ErrorCode::Malformed, "depth ends no process");
}

fn info() -> Info {
    let fields = [("engine".to_owned(), "kvs".into()), ("uptimeSeconds".to_owned(), 7.into())];
    Info { sections: [("server".to_owned(), fields.into())].into() }
}

#[test]
fn every_response_is_written_in_one_way_and_read_back() {
    let ok = |answer| Response { body: Ok(answer), id: None };
    let stories = vec![
        (ok(Answer::Null), "{\"ok\":null}\n"),
        (ok(Answer::Bool(true)), "{\"ok\":true}\n"),
        (ok(Answer::Bool(false)), "{\"ok\":false}\n"),
        (ok(Answer::Bytes(b"v".to_vec())), "{\"ok\":\"v\"}\n"),
        (ok(Answer::Bytes(vec![0xff])), "{\"ok64\":\"/w==\"}\n"),
        (ok(Answer::Number(u64::MAX)), "{\"ok\":18446744073709551615}\n"),
        (ok(Answer::Page(Page::default())), "{\"ok\":{\"entries\":[],\"cursor\":null}}\n"),
        (
            ok(Answer::Page(Page {
                entries: vec![
                    Entry { key: b"k".to_vec(), value: Some(vec![0xff]) },
                    Entry { key: vec![0xff], value: None },
                ],
                cursor: Some("abc".into()),
            })),
            "{\"ok\":{\"entries\":[{\"key\":\"k\",\"value64\":\"/w==\"},{\"key64\":\"/w==\"}],\"cursor\":\"abc\"}}\n",
        ),
        (ok(Answer::Info(info())), "{\"ok\":{\"server\":{\"engine\":\"kvs\",\"uptimeSeconds\":7}}}\n"),
        (ok(Answer::Part(BackupPart::File("MANIFEST".into()))), "{\"ok\":{\"file\":\"MANIFEST\"}}\n"),
        (ok(Answer::Part(BackupPart::Data(vec![1, 2]))), "{\"ok\":{\"data64\":\"AQI=\"}}\n"),
        (
            ok(Answer::Part(BackupPart::End(BackupEnd { files: 2, bytes: 30, crc32c: 4, last_sequence: 5 }))),
            "{\"ok\":{\"end\":{\"files\":2,\"bytes\":30,\"crc32c\":4,\"lastSequence\":5}}}\n",
        ),
        (
            Response { body: Ok(Answer::Bytes(b"v".to_vec())), id: Some(RequestId::Number(7)) },
            "{\"ok\":\"v\",\"id\":7}\n",
        ),
        (
            WireError::new(ErrorCode::KeyNotFound, "Key not found").into(),
            "{\"error\":{\"code\":\"key_not_found\",\"message\":\"Key not found\"}}\n",
        ),
    ];
    for (response, line) in stories {
        let mut out = Vec::new();
        response.encode(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), line);
        assert_eq!(Response::decode(line.trim_end().as_bytes()).unwrap(), response, "{line}");
    }
}

#[test]
fn a_client_reads_what_a_newer_server_adds() {
    let line = b"{\"error\":{\"code\":\"not_leader\",\"message\":\"ask another\",\"leader\":\"b\"},\"term\":3}";
    let error = Response::decode(line).unwrap().body.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Other, "ask another"));
    for line in ["{}", "{\"ok\":1,\"error\":2}", "{\"ok\":null,\"ok64\":\"\"}", "HTTP/1.1 200 OK"] {
        assert!(Response::decode(line.as_bytes()).is_err(), "{line}");
    }
}
