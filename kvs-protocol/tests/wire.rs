//! The wire, byte by byte: what is written is what is read, and what is not a request is refused with the right code.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use kvs_protocol::{Answer, Change, ErrorCode, Request, RequestId, Response, Verb, WireError};

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
    assert_eq!(message, "unknown verb `increment`; use one of `ping`, `get`, `exists`, `set`, `rm`, `batch`");
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

#[test]
fn every_response_is_written_in_one_way_and_read_back() {
    let ok = |answer| Response { body: Ok(answer), id: None };
    let stories = vec![
        (ok(Answer::Null), "{\"ok\":null}\n"),
        (ok(Answer::Bool(true)), "{\"ok\":true}\n"),
        (ok(Answer::Bool(false)), "{\"ok\":false}\n"),
        (ok(Answer::Bytes(b"v".to_vec())), "{\"ok\":\"v\"}\n"),
        (ok(Answer::Bytes(vec![0xff])), "{\"ok64\":\"/w==\"}\n"),
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
