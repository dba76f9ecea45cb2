//! Whose fault an answer's code says it is.

/// Whether an HTTP status blames the server: `503`.
pub fn is_5xx(code: &str) -> bool {
    code.len() == 3 && code.starts_with('5')
}

/// The gRPC codes that blame the server: unknown, deadline exceeded, unimplemented, internal, unavailable and data
/// loss, as OpenTelemetry's semantic conventions list them. As a number, as Go names them (`DeadlineExceeded`), or as the
/// protocol does (`DEADLINE_EXCEEDED`).
pub fn is_server_fault(grpc_status: &str) -> bool {
    let word: String = grpc_status.chars().filter(|c| *c != '_').collect::<String>().to_ascii_lowercase();
    matches!(
        word.as_str(),
        "2" | "unknown"
            | "4"
            | "deadlineexceeded"
            | "12"
            | "unimplemented"
            | "13"
            | "internal"
            | "14"
            | "unavailable"
            | "15"
            | "dataloss"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_blame_the_server_are_known_in_every_spelling() {
        for code in ["14", "Unavailable", "UNAVAILABLE", "DeadlineExceeded", "DEADLINE_EXCEEDED", "DataLoss"]
        {
            assert!(is_server_fault(code), "{code}");
        }
        for code in
            ["", "0", "OK", "3", "InvalidArgument", "NotFound", "Canceled", "RESOURCE_EXHAUSTED", "200"]
        {
            assert!(!is_server_fault(code), "{code}");
        }
        for (code, expected) in [("503", true), ("5xx", true), ("5", false), ("200", false), ("", false)] {
            assert_eq!(is_5xx(code), expected, "{code}");
        }
    }
}
