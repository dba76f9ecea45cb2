//! A VirtualService as the gateway reads it, and which of its routes takes a request.

use http::{Method, Uri};
use regex::Regex;
use serde_json::{Map, Value};

/// What a request is matched by.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    /// Without the port.
    pub(super) host: &'a str,
    pub(super) headers: &'a http::HeaderMap,
}

/// Where a part of the requests goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) weight: u32,
    /// What it does to the headers of answers.
    pub(super) headers: Headers,
}

/// Changes of headers: those that are set, then those that are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
}

/// A copy of the requests.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mirror {
    pub(super) destination: Destination,
    /// 0 to 100.
    pub(super) percentage: f64,
}

/// One http route that took a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    /// Its place in the VirtualService.
    pub(super) at: usize,
    pub(super) destinations: Vec<Destination>,
    pub(super) mirrors: Vec<Mirror>,
    /// Path and query to ask for.
    pub(super) path: String,
}

/// How well a VirtualService's hosts name the host: the length of the entry that matches, a full name above all.
pub(super) fn host_fit(spec: &Value, host: &str) -> Option<usize> {
    let hosts = spec["hosts"].as_array()?;
    hosts.iter().filter_map(Value::as_str).filter_map(|entry| fit(entry, host)).max()
}

fn fit(entry: &str, host: &str) -> Option<usize> {
    match entry.strip_prefix('*') {
        None => entry.eq_ignore_ascii_case(host).then_some(usize::MAX),
        Some(suffix) => {
            host.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase()).then_some(suffix.len())
        }
    }
}

/// The first route of the VirtualService that takes the request.
pub(super) fn find(spec: &Value, asked: &Asked<'_>) -> Option<Route> {
    let routes = spec["http"].as_array()?;
    routes.iter().enumerate().find_map(|(at, route)| {
        let matched = matched(route, asked)?;
        Some(Route {
            at,
            destinations: destinations(route),
            mirrors: mirrors(route),
            path: rewritten(route, &matched, asked.uri),
        })
    })
}

/// The path prefix by which a route took the request, empty where it was not by prefix.
fn matched(route: &Value, asked: &Asked<'_>) -> Option<String> {
    let matches = route["match"].as_array().map(Vec::as_slice).unwrap_or_default();
    if matches.is_empty() {
        return Some("/".into());
    }
    matches.iter().find(|m| holds(m, asked)).map(|m| match &m["uri"] {
        Value::Null => "/".into(),
        uri => uri["prefix"].as_str().unwrap_or_default().into(),
    })
}

fn holds(condition: &Value, asked: &Asked<'_>) -> bool {
    let Some(fields) = condition.as_object() else { return false };
    let header = |name: &str| asked.headers.get(name).and_then(|v| v.to_str().ok());
    fields.iter().all(|(field, wanted)| match field.as_str() {
        "uri" => text(wanted, Some(asked.uri.path())),
        "method" => text(wanted, Some(asked.method.as_str())),
        "authority" => text(wanted, Some(asked.host)),
        "headers" => all(wanted, |name, wanted| text(wanted, header(name))),
        "withoutHeaders" => all(wanted, |name, wanted| !text(wanted, header(name))),
        "queryParams" => all(wanted, |name, wanted| text(wanted, parameter(asked.uri, name).as_deref())),
        // About where the request comes in, which here is always this gateway.
        "name" | "port" | "gateways" | "statPrefix" => true,
        _ => false,
    })
}

fn all(conditions: &Value, holds: impl Fn(&str, &Value) -> bool) -> bool {
    conditions.as_object().unwrap_or(&Map::new()).iter().all(|(name, wanted)| holds(name, wanted))
}

/// Istio's `StringMatch`: one of exact, prefix, regex; none of them asks only that there is a value.
fn text(wanted: &Value, given: Option<&str>) -> bool {
    let Some(given) = given else { return false };
    if let Some(exact) = wanted["exact"].as_str() {
        return given == exact;
    }
    if let Some(prefix) = wanted["prefix"].as_str() {
        return given.starts_with(prefix);
    }
    if let Some(pattern) = wanted["regex"].as_str() {
        return Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|r| r.is_match(given));
    }
    true
}

fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let axum::extract::Query(pairs) =
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn destinations(route: &Value) -> Vec<Destination> {
    let entries = route["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut destinations: Vec<Destination> = entries
        .iter()
        .map(|entry| {
            let weight = entry["weight"].as_u64().and_then(|w| u32::try_from(w).ok()).unwrap_or_default();
            let headers = response_headers(entry);
            Destination { weight, headers, ..destination(&entry["destination"]) }
        })
        .collect();
    // One destination takes everything, whatever its weight says; of several, an absent weight is 0.
    if let [only] = destinations.as_mut_slice() {
        only.weight = 100;
    }
    destinations
}

fn destination(value: &Value) -> Destination {
    let port = value["port"]["number"].as_u64().and_then(|p| u16::try_from(p).ok());
    let host = value["host"].as_str().unwrap_or_default().into();
    Destination { host, port, weight: 0, headers: Headers::default() }
}

fn response_headers(entry: &Value) -> Headers {
    let pairs = |value: &Value| -> Vec<(String, String)> {
        let fields = value.as_object().into_iter().flatten();
        fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    };
    let response = &entry["headers"]["response"];
    Headers { set: pairs(&response["set"]), add: pairs(&response["add"]) }
}

fn mirrors(route: &Value) -> Vec<Mirror> {
    let percentage = |value: &Value| value.as_f64().unwrap_or(100.0);
    let mut mirrors = Vec::new();
    if route["mirror"].is_object() {
        // The deprecated integer counts only where the newer field is absent.
        let given = &route["mirrorPercentage"]["value"];
        let given = if given.is_null() { &route["mirrorPercent"] } else { given };
        mirrors.push(Mirror { destination: destination(&route["mirror"]), percentage: percentage(given) });
    }
    for mirror in route["mirrors"].as_array().into_iter().flatten() {
        let destination = destination(&mirror["destination"]);
        mirrors.push(Mirror { destination, percentage: percentage(&mirror["percentage"]["value"]) });
    }
    mirrors
}

fn rewritten(route: &Value, prefix: &str, uri: &Uri) -> String {
    let path = match route["rewrite"]["uri"].as_str() {
        None => uri.path().to_string(),
        // By anything but a prefix the whole path is replaced.
        Some(to) if prefix.is_empty() => to.to_string(),
        Some(to) => format!("{to}{}", uri.path().strip_prefix(prefix).unwrap_or_default()),
    };
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn take(spec: &Value, uri: &str, header: Option<(&'static str, &str)>) -> Option<Route> {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        let uri = uri.parse().unwrap();
        find(spec, &Asked { method: &Method::POST, uri: &uri, host: "iris.example.com", headers: &headers })
    }

    #[test]
    fn the_first_route_whose_match_holds_takes_the_request() {
        let route = |host: &str| json!([{"destination": {"host": host}}]);
        let spec = json!({"http": [
            {"match": [{"uri": {"exact": "/a"}}, {"headers": {"x-group": {"exact": "beta"}}}], "route": route("a")},
            {"match": [{"uri": {"regex": "/b[0-9]+"}, "method": {"exact": "POST"}}], "route": route("b")},
            {"match": [{"queryParams": {"q": {"prefix": "x"}}}], "route": route("c")},
            {"match": [{"withoutHeaders": {"x-group": {}}, "uri": {"prefix": "/d"}}], "route": route("d")},
            {"match": [{"something": "new"}], "route": route("never")},
        ]});
        let host = |uri, header| take(&spec, uri, header).map(|r| r.destinations[0].host.clone());
        assert_eq!(host("/a", None).as_deref(), Some("a"));
        assert_eq!(host("/z", Some(("x-group", "beta"))).as_deref(), Some("a"));
        assert_eq!(host("/b42", None).as_deref(), Some("b"));
        assert_eq!(host("/b42/more", None), None, "a regex matches the whole path");
        assert_eq!(host("/z?p=1&q=xy", None).as_deref(), Some("c"));
        assert_eq!(host("/d/1", None).as_deref(), Some("d"));
        assert_eq!(host("/d/1", Some(("x-group", "alpha"))), None);
    }

    #[test]
    fn an_absent_weight_is_nothing_among_several_and_everything_alone() {
        let spec = json!({"http": [{"route": [
            {"destination": {"host": "a"}, "weight": 100}, {"destination": {"host": "b"}},
        ]}]});
        let weights =
            |spec| take(spec, "/", None).unwrap().destinations.iter().map(|d| d.weight).collect::<Vec<_>>();
        assert_eq!(weights(&spec), [100, 0]);
        assert_eq!(weights(&json!({"http": [{"route": [{"destination": {"host": "a"}}]}]})), [100]);
    }

    #[test]
    fn a_destination_says_what_becomes_of_the_headers_of_answers() {
        let headers = json!({"response": {"set": {"x-arm": "a"}, "add": {"set-cookie": "c=1"}}});
        let spec = json!({"http": [{"route": [{"destination": {"host": "a"}, "headers": headers}]}]});
        let headers = take(&spec, "/", None).unwrap().destinations[0].headers.clone();
        assert_eq!(headers.set, [("x-arm".to_owned(), "a".to_owned())]);
        assert_eq!(headers.add, [("set-cookie".to_owned(), "c=1".to_owned())]);
    }

    #[test]
    fn a_matched_prefix_is_rewritten_and_the_query_stays() {
        let spec = json!({"http": [{
            "match": [{"uri": {"prefix": "/seldon/models/iris/"}}],
            "rewrite": {"uri": "/"},
            "route": [{"destination": {"host": "a"}}],
        }]});
        assert_eq!(take(&spec, "/seldon/models/iris/v2/x?y=1", None).unwrap().path, "/v2/x?y=1");
    }

    #[test]
    fn hosts_fit_by_name_then_by_the_longest_wildcard() {
        let fit = |hosts: Value| host_fit(&json!({"hosts": hosts}), "iris.example.com");
        assert_eq!(fit(json!(["other.com"])), None);
        assert_eq!(fit(json!(["*"])), Some(0));
        assert!(fit(json!(["*.example.com"])) > fit(json!(["*.com", "*"])));
        assert_eq!(fit(json!(["*", "IRIS.example.com"])), Some(usize::MAX));
    }
}
