"""Small faithful endpoints of AWS on loopback: IMDSv2, the containers', STS."""
import datetime
import http.server
import json
import secrets
import threading
import time
import urllib.parse

ROLE = "enclave-parent"


def instant(seconds: float) -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Endpoint:
    """One HTTP server; `fault` is a status that it answers to everything, `code` IMDS's Code."""

    def __init__(self, lifetime: float = 3600):
        self.lifetime, self.fault, self.code = lifetime, None, "Success"
        self.requests, self.tokens, self.issued = [], set(), 0
        self.authorization = None
        self.identity_token = "header.claims.signature"
        self.body_override = None
        self.redirect, self.delay = None, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                status, text = outer.answer(self.command, self.path, self.headers,
                                            self.rfile.read(length).decode())
                body = text.encode()
                time.sleep(outer.delay)
                self.send_response(status)
                if outer.redirect:
                    self.send_header("Location", outer.redirect + self.path)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = answer

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # a client that gives up on an answer is a case of its own test

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def credentials(self) -> dict:
        self.issued += 1
        return {"AccessKeyId": f"ASIAEXAMPLE{self.issued:09}", "SecretAccessKey": "s3cr3t" * 6,
                "Token": "session-token", "Expiration": instant(self.lifetime)}

    def answer(self, method, path, headers, body):
        self.requests.append((method, path))
        if self.redirect:
            return 302, "elsewhere"
        if self.fault:
            return self.fault, "no"
        if self.body_override is not None and path.count("/") > 1:
            return 200, self.body_override
        if path.startswith("/latest/"):
            return self.imds(method, path, headers)
        if path.startswith("/v2/credentials") or path.startswith("/v1/credentials"):
            return self.container(headers)
        return self.sts(method, body)

    # EC2 user guide: a PUT for the token, which every GET must carry; version 1 is refused.
    def imds(self, method, path, headers):
        if path == "/latest/api/token":
            ttl = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if method != "PUT" or not ttl.isdigit() or not 1 <= int(ttl) <= 21600 \
                    or "X-Forwarded-For" in headers:
                return 400, "bad"
            token = secrets.token_urlsafe(40)
            self.tokens.add(token)
            return 200, token
        if headers.get("X-aws-ec2-metadata-token") not in self.tokens:
            return 401, "unauthorized"
        base = "/latest/meta-data/iam/security-credentials/"
        if path == base:
            return 200, ROLE
        if path != base + ROLE:
            return 404, "not found"
        if self.code != "Success":
            return 200, json.dumps({"Code": self.code, "LastUpdated": instant(0)})
        return 200, json.dumps({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": instant(0),
                                **self.credentials()})

    def container(self, headers):
        if self.authorization and headers.get("Authorization") != self.authorization:
            return 401, "unauthorized"
        return 200, json.dumps({**self.credentials(), "AccountId": "123456789012"})

    def sts(self, method, body):
        form = {k: v[0] for k, v in urllib.parse.parse_qs(body).items()}
        if method != "POST" or form.get("Action") != "AssumeRoleWithWebIdentity" \
                or form.get("Version") != "2011-06-15" \
                or form.get("WebIdentityToken") != self.identity_token \
                or not form.get("RoleArn", "").startswith("arn:aws:iam::"):
            return 403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        made = self.credentials()
        made["SessionToken"] = made.pop("Token")
        members = "".join(f"<{k}>{v}</{k}>" for k, v in made.items())
        return 200, ('<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/'
                     '2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>' + members +
                     "</Credentials></AssumeRoleWithWebIdentityResult>"
                     "</AssumeRoleWithWebIdentityResponse>")
