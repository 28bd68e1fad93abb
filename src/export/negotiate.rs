//! Which format a client gets, from its Accept header.
//!
//! Seen from Prometheus: 2.42 asks for OpenMetrics 1.0.0, then 0.0.1, then text; with native
//! histograms enabled protobuf comes first; 3.5 adds `escaping=allow-utf-8` and text 1.0.0, which
//! we answer with what we have. No header, or one that names nothing we know: text 0.0.4, because
//! endpoint pickers read nothing else.

/// A format we can write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Text,
    OpenMetrics,
    Protobuf,
}

impl Format {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// The format with the highest weight among those we offer; the first named wins a tie.
pub(crate) fn format(accept: Option<&str>, offer_protobuf: bool) -> Format {
    let mut best = (Format::Text, 0.0);
    for item in accept.unwrap_or("").split(',') {
        let mut parts = item.split(';').map(str::trim);
        let media = parts.next().unwrap_or("").to_ascii_lowercase();
        let params: Vec<(&str, &str)> =
            parts.filter_map(|p| p.split_once('=')).map(|(n, v)| (n.trim(), v.trim())).collect();
        let param = |name: &str| {
            let found = params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim_matches('"'))
        };
        let format = match media.as_str() {
            "application/openmetrics-text"
                if matches!(param("version"), None | Some("1.0.0" | "0.0.1")) =>
            {
                Format::OpenMetrics
            }
            "application/vnd.google.protobuf"
                if offer_protobuf
                    && matches!(
                        param("proto"),
                        None | Some("io.prometheus.client.MetricFamily")
                    )
                    && matches!(param("encoding"), None | Some("delimited")) =>
            {
                Format::Protobuf
            }
            "text/plain" | "text/*" | "*/*" => Format::Text,
            _ => continue,
        };
        let weight = param("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if weight > best.1 {
            best = (format, weight)
        }
    }
    best.0
}

/// Does the client rather read text than JSON? Only one that names it; `*/*` means JSON.
pub(crate) fn wants_plain_text(accept: &str) -> bool {
    let weight = |wanted: &[&str]| {
        let weights = accept.split(',').filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let media = parts.next()?.to_ascii_lowercase();
            let q = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |q| q.parse().unwrap_or(0.0));
            wanted.contains(&media.as_str()).then_some(q)
        });
        weights.fold(0.0, f64::max)
    };
    weight(&["text/plain"]) > weight(&["application/json", "*/*"])
}

/// Does the client take gzip?
pub(crate) fn takes_gzip(accept_encoding: Option<&str>) -> bool {
    accept_encoding.unwrap_or("").split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or("");
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map(|q| q.parse::<f64>());
        let refused = weight.is_some_and(|q| q.is_ok_and(|q| q == 0.0));
        (coding.eq_ignore_ascii_case("gzip") || coding == "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMETHEUS_2_42: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_2_42_NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_3_5: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1";

    #[test]
    fn each_prometheus_gets_what_it_asks_for() {
        assert_eq!(format(Some(PROMETHEUS_2_42), true), Format::OpenMetrics);
        assert_eq!(format(Some(PROMETHEUS_3_5), true), Format::OpenMetrics);
        assert_eq!(format(Some(PROMETHEUS_2_42_NATIVE), true), Format::Protobuf);
    }

    #[test]
    fn protobuf_is_never_offered_unless_it_was_turned_on() {
        assert_eq!(format(Some(PROMETHEUS_2_42_NATIVE), false), Format::OpenMetrics);
    }

    #[test]
    fn without_a_usable_header_it_is_the_old_text() {
        for accept in [None, Some(""), Some("*/*"), Some("text/html"), Some("application/json")] {
            assert_eq!(format(accept, true), Format::Text, "{accept:?}");
        }
        let unknown = "application/openmetrics-text;version=2.0.0";
        assert_eq!(format(Some(unknown), true), Format::Text);
        let refused = "application/openmetrics-text;q=0,text/plain;q=0.1";
        assert_eq!(format(Some(refused), true), Format::Text);
    }

    #[test]
    fn a_person_who_asks_for_text_gets_it_and_a_browser_gets_json() {
        assert!(wants_plain_text("text/plain") && wants_plain_text("text/plain, */*;q=0.5"));
        for accept in ["*/*", "", "application/json", "text/html,*/*;q=0.8", "text/plain;q=0.1,*/*"]
        {
            assert!(!wants_plain_text(accept), "{accept}")
        }
    }

    #[test]
    fn gzip_only_if_it_is_taken() {
        assert!(takes_gzip(Some("gzip")) && takes_gzip(Some("deflate, gzip;q=0.5")));
        assert!(!takes_gzip(None) && !takes_gzip(Some("gzip;q=0.000")) && !takes_gzip(Some("br")));
    }
}
