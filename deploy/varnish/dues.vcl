# Varnish as the edge of what everybody may see: the catalogue (stores and packages) and public posts, which Dues purges by
# tag as they change, and the files of its pages. Varnish 7 with the modules xkey and var (on Debian: varnish,
# varnish-modules):
#
#   DUES_PURGE_TOKEN=… varnishd -f /etc/varnish/dues.vcl -a 127.0.0.1:6081 -p http_gzip_support=off
#
# and for Dues PURGE_URL=http://127.0.0.1:6081/__purge and PURGE_TOKEN the same. Without that parameter Varnish would ask for
# gzip alone. TLS is the gateway's, in front of this: FORWARDED_ALLOW_IPS names both, the gateway and Varnish. PURGE_URL is one
# URL: where there are several of these, something has to pass each purge on to all.
vcl 4.1;

import directors;
import std;
import var;
import xkey;

probe ready {
    # Dues takes payments without Redis, so its absence takes no web server out.
    .url = "/readyz?ignore=redis";
    .interval = 1s;
    .timeout = 4s;
    .window = 3;
    .threshold = 2;
    .initial = 2;
}

backend web1 {
    .host = "127.0.0.1";
    .port = "8001";
    .probe = ready;
    .connect_timeout = 1s;
    # Longer than a client may wait for an answer (25 s), and than a stream of events is silent (15 s).
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}

backend web2 {
    .host = "127.0.0.1";
    .port = "8002";
    .probe = ready;
    .connect_timeout = 1s;
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}

acl purgers {
    "127.0.0.1";
    "::1";
}

sub vcl_init {
    new webs = directors.round_robin();
    webs.add_backend(web1);
    webs.add_backend(web2);
}

sub vcl_recv {
    set req.backend_hint = webs.backend();

    if (req.url ~ "^/__purge(\?|$)") {
        if (req.method != "POST" || client.ip !~ purgers || std.getenv("DUES_PURGE_TOKEN") == ""
            || req.http.Authorization != "Bearer " + std.getenv("DUES_PURGE_TOKEN")) {
            return (synth(403));
        }
        # Before the purge: see vcl_backend_response.
        var.global_set("purged", "" + std.time2real(now, 0.0));
        # At once, and not softly: what is out of date is given to nobody.
        set req.http.X-Purged = xkey.purge(req.http.Surrogate-Key);
        return (synth(204));
    }

    # What is for operators is asked of the web servers themselves.
    if (req.url ~ "^/+(metrics|readyz)(/|\?|$)") {
        return (synth(404));
    }

    # Events of a job go on for as long as the job.
    if (req.url ~ "^/v1/jobs/[^/?]+/events") {
        return (pipe);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        if (req.method == "POST" && req.http.Idempotency-Key) {
            # Or it could not be sent twice: see vcl_backend_error.
            if (std.integer(req.http.Content-Length, 0) > 0 && std.integer(req.http.Content-Length, 0) <= 2097152) {
                std.cache_req_body(2MB);
            }
        } elsif (!req.http.Transfer-Encoding && std.integer(req.http.Content-Length, 0) == 0) {
            # What has no body Varnish would send again by itself where a kept connection to a web server is lost.
            return (pipe);
        }
        return (pass);
    }
    # What needs a token is somebody's own.
    if (req.http.Authorization) {
        return (pass);
    }
    # Dues knows none.
    unset req.http.Cookie;

    # One copy for each coding that Dues makes, whatever else a client names.
    if (req.http.Accept-Encoding ~ "\bzstd\b" && req.http.Accept-Encoding !~ "zstd;q=0(\.0*)?(,|$)") {
        set req.http.Accept-Encoding = "zstd";
    } elsif (req.http.Accept-Encoding ~ "\bbr\b" && req.http.Accept-Encoding !~ "br;q=0(\.0*)?(,|$)") {
        set req.http.Accept-Encoding = "br";
    } elsif (req.http.Accept-Encoding ~ "\bgzip\b" && req.http.Accept-Encoding !~ "gzip;q=0(\.0*)?(,|$)") {
        set req.http.Accept-Encoding = "gzip";
    } else {
        unset req.http.Accept-Encoding;
    }
    return (hash);
}

sub vcl_pipe {
    # One request a connection, or those that follow it would pass unseen.
    set bereq.http.Connection = "close";
}

sub vcl_backend_response {
    set beresp.http.xkey = beresp.http.Surrogate-Key;
    # Not a second longer than it may be kept.
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    if (beresp.http.Cache-Control !~ "s-maxage|immutable") {
        # Remembered is only that it is not kept, so that requests for it do not wait for one another.
        set beresp.uncacheable = true;
        set beresp.ttl = 60s;
    } elsif (bereq.time <= std.real2time(std.real(var.global_get("purged"), 0.0) + 0.001, now)) {
        # What was asked for before a purge may have been made before the change, and nobody purges it any more. Neither
        # is it for those who have asked since and wait for it: what is not kept they ask for by themselves. (Times are
        # written in milliseconds.)
        set beresp.uncacheable = true;
        set beresp.ttl = 1s;
    }
    return (deliver);
}

sub vcl_deliver {
    unset resp.http.xkey;
    unset resp.http.Surrogate-Key;
    unset resp.http.Cache-Tag;
    unset resp.http.X-Varnish;
    unset resp.http.Via;
}

sub vcl_synth {
    set resp.http.Cache-Control = "no-store";
    if (resp.status == 204) {
        return (deliver);
    }
    set resp.http.Content-Type = "application/problem+json";
    set resp.body = """{"type":"/problems/gateway","title":"Refused","status":""" + resp.status
        + ""","detail":"the edge answers in place of Dues","instance":"","code":"gateway"}""";
    return (deliver);
}

sub vcl_backend_error {
    # A web server that has just died is not known to be dead yet: another is asked, where doing it twice is doing it once.
    # Writes without a key are left to the client, which alone knows; so are those whose body is too large to be kept.
    if (bereq.retries < 3 && (bereq.method == "GET" || bereq.method == "HEAD"
        || (bereq.method == "POST" && bereq.http.Idempotency-Key))) {
        return (retry);
    }
    set beresp.http.Content-Type = "application/problem+json";
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Retry-After = "2";
    set beresp.body = """{"type":"/problems/gateway","title":"Service Unavailable","status":""" + beresp.status
        + ""","detail":"the edge answers in place of Dues","instance":"","code":"gateway"}""";
    return (deliver);
}
