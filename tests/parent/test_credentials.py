"""Credentials: each source as AWS serves it, refreshed early, through outages, never in a log."""
import json
import os
import time
import unittest

from endpoints import Endpoint, instant
from parts import ParentCase
from python_parent import Refused, call

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
OBJECT = {"AccessKeyId": "AKIAEXAMPLE000000000", "SecretAccessKey": "from-the-file"}


class CredentialsCase(ParentCase):
    def endpoint(self, **more) -> Endpoint:
        endpoint = Endpoint(**more)
        self.addCleanup(endpoint.close)
        return endpoint

    def serve(self, source, **env):
        return self.spawn("serve", "--services", f"unix:{self.dir}/services.sock", "--relay",
                          f"unix:{self.dir}/relay.sock=127.0.0.1:9", "--store",
                          f"sqlite:{self.dir}/store.db", "--credentials", source,
                          env={**CLEAN, "HOME": str(self.dir), **env})

    def ask(self) -> dict:
        result, data = call(str(self.dir / "services.sock"), {"op": "credentials"})
        self.assertEqual(result, {})
        return json.loads(data)

    def refusal(self, *expected) -> str:
        with self.assertRaises(Refused) as caught:
            self.ask()
        for text in expected:
            self.assertIn(text, str(caught.exception))
        self.assertNotIn("s3cr3t", str(caught.exception))
        return caught.exception.code

    def assert_log_is_clean(self):
        for secret in ("s3cr3t", "session-token", "from-the-file", "header.claims"):
            self.assertNotIn(secret, self.log.read_text())


class Local(CredentialsCase):
    def test_the_environment(self):
        self.serve("env", AWS_ACCESS_KEY_ID="AKIA1", AWS_SECRET_ACCESS_KEY="s3cr3t",
                   AWS_SESSION_TOKEN="session-token")
        self.assertEqual(self.ask(), {"AccessKeyId": "AKIA1", "SecretAccessKey": "s3cr3t",
                                      "Token": "session-token"})
        self.assert_log_is_clean()

    def test_an_environment_without_a_secret_names_it(self):
        self.serve("env", AWS_ACCESS_KEY_ID="AKIA1")
        self.assertEqual(self.refusal("AWS_SECRET_ACCESS_KEY"), "kms-credentials")

    def test_a_file_is_read_again_at_each_call_and_its_faults_are_named(self):
        path = self.dir / "c.json"
        self.serve(f"file:{path}")
        path.write_text(json.dumps(OBJECT))
        self.assertEqual(self.ask(), OBJECT)
        for text, expected in (("", "JSON"), ("[]", "object"), ("{}", "AccessKeyId"),
                               ('{"AccessKeyId":"s3cr3t"}', "SecretAccessKey"),
                               ('{"AccessKeyId":1,"SecretAccessKey":"s3cr3t"}', "AccessKeyId"),
                               (json.dumps({**OBJECT, "Expiration": "s3cr3t"}), "Expiration"),
                               (json.dumps({**OBJECT, "Code": "Failed"}), "Success"),
                               (json.dumps(OBJECT)[:-1], "line")):
            with self.subTest(text=text):
                path.write_text(text)
                self.refusal(expected)
        path.unlink()
        self.refusal("c.json")
        path.write_text(json.dumps(OBJECT))
        self.assertEqual(self.ask(), OBJECT)
        self.assert_log_is_clean()

    def test_a_profile_of_the_shared_file(self):
        (self.dir / ".aws").mkdir()
        (self.dir / ".aws/credentials").write_text(
            "# comment\n[default]\naws_access_key_id = AKIADEFAULT\r\n"
            "aws_secret_access_key=a=b\n\n[ other ]\naws_access_key_id=AKIAOTHER\n"
            "aws_secret_access_key = s3cr3t\n; aws_session_token = no\n"
            "aws_session_token = session-token\nregion = eu-west-1\n[half]\naws_access_key_id=A\n")
        for source, env, expected in (
                ("profile", {}, {"AccessKeyId": "AKIADEFAULT", "SecretAccessKey": "a=b"}),
                ("profile:other", {}, {"AccessKeyId": "AKIAOTHER", "SecretAccessKey": "s3cr3t",
                                       "Token": "session-token"}),
                ("profile", {"AWS_PROFILE": "other"}, {"AccessKeyId": "AKIAOTHER",
                 "SecretAccessKey": "s3cr3t", "Token": "session-token"})):
            with self.subTest(source=source, env=env):
                process = self.serve(source, **env)
                self.assertEqual(self.ask(), expected)
                self.stop(process)
        process = self.serve("profile:half")
        self.refusal("[half]", "aws_secret_access_key")
        self.stop(process)
        self.serve("profile:none")
        self.refusal("[none]")

    def test_a_profile_of_the_config_file(self):
        (self.dir / ".aws").mkdir()
        (self.dir / ".aws/config").write_text(
            "[default]\nregion = eu-west-1\naws_access_key_id=AKIADEFAULT\n"
            "aws_secret_access_key = s3cr3t\n[profile other]\naws_access_key_id = AKIAOTHER\n"
            "aws_secret_access_key=s3cr3t\n[third]\naws_access_key_id = AKIATHIRD\n"
            "aws_secret_access_key = s3cr3t\n[profile process]\n"
            "credential_process = /bin/true\n[profile role]\nrole_arn = arn:aws:iam::1:role/r\n")
        for source, expected in (("profile", "AKIADEFAULT"), ("profile:other", "AKIAOTHER")):
            with self.subTest(source=source):
                process = self.serve(source)
                self.assertEqual(self.ask()["AccessKeyId"], expected)
                self.stop(process)
        for name, found in (("third", "[profile third]"), ("process", "credential_process"),
                            ("role", "role_arn")):
            with self.subTest(name=name):
                process = self.serve(f"profile:{name}")
                self.assertEqual(self.refusal("expected", "found", found), "kms-credentials")
                self.stop(process)
        (self.dir / ".aws/credentials").write_text(
            "[other]\naws_access_key_id = AKIAFIRST\naws_secret_access_key = s3cr3t\n")
        self.serve("profile:other")
        self.assertEqual(self.ask()["AccessKeyId"], "AKIAFIRST", "this file goes first")
        self.assert_log_is_clean()

    def test_an_empty_variable_is_an_absent_one(self):
        self.serve("env", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="s3cr3t")
        self.refusal("expected AWS_ACCESS_KEY_ID")

    def test_a_source_of_no_known_form_is_refused_at_the_start(self):
        for source in ("", "imds:x", "file", "file:", "env:x", "IMDS", "vault"):
            with self.subTest(source=source):
                process = self.spawn("serve", "--services", f"unix:{self.dir}/s", "--relay",
                                     f"unix:{self.dir}/r=h:1", "--store",
                                     f"sqlite:{self.dir}/store.db", "--credentials", source,
                                     ready=False)
                self.assertEqual(process.wait(20), 2)


class Imds(CredentialsCase):
    def imds(self, **more):
        endpoint = self.endpoint(**more)
        self.process = self.serve("imds", AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint.url + "/",
                                  http_proxy="http://127.0.0.1:1")
        return endpoint

    def test_version_2_is_spoken_and_the_answer_kept(self):
        endpoint = self.imds()
        self.assertEqual(self.ask()["AccessKeyId"], "ASIAEXAMPLE000000001")
        self.assertEqual([m for m, _ in endpoint.requests], ["PUT", "GET", "GET"])
        for _ in range(20):
            self.ask()
        self.assertEqual(len(endpoint.requests), 3)
        self.assert_log_is_clean()

    def test_they_are_fetched_again_before_they_expire_without_being_asked_for(self):
        endpoint = self.imds(lifetime=6)
        self.ask()
        deadline = time.monotonic() + 6
        while endpoint.issued < 2:
            self.assertLess(time.monotonic(), deadline, "not refreshed in time")
            time.sleep(0.05)
        self.assertGreater(self.ask()["AccessKeyId"], "ASIAEXAMPLE000000001")

    def test_an_outage_is_survived_with_the_old_ones_until_they_expire(self):
        endpoint = self.imds(lifetime=6)
        first = self.ask()
        endpoint.fault = 500
        self.wait_lines("credentials.failed")
        self.assertIn("still valid", self.lines("credentials.failed")[0])
        self.assertEqual(self.ask(), first)
        time.sleep(max(0, 6.5 - 3))
        deadline = time.monotonic() + 10
        code = None
        while code is None and time.monotonic() < deadline:
            try:
                self.ask()
                time.sleep(0.1)
            except Refused as refused:
                code = refused.code
        self.assertEqual(code, "kms-credentials")
        endpoint.fault, endpoint.lifetime = None, 3600
        self.assertNotEqual(self.ask()["AccessKeyId"], first["AccessKeyId"])
        self.assert_log_is_clean()

    def test_an_answer_that_is_no_success_is_refused(self):
        endpoint = self.imds()
        endpoint.code = "AssumeRoleUnauthorizedAccess"
        self.refusal("AssumeRoleUnauthorizedAccess")
        endpoint.code = "Success"
        for body, expected in (("{", "line"), ("", "printable"), ("a b", "printable"),
                               ("x" * 70000, "at most")):
            with self.subTest(body=body[:20]):
                endpoint.body_override = body
                self.refusal(expected)
        endpoint.body_override = None
        endpoint.fault = 403
        self.refusal("403")
        endpoint.fault = None
        self.ask()

    def test_a_redirect_is_not_followed(self):
        endpoint, other = self.imds(), self.endpoint()
        endpoint.redirect = other.url
        self.refusal("expected status 200, found 302")
        self.assertEqual(other.requests, [])

    def test_a_source_that_hangs_is_given_up_in_time(self):
        endpoint = self.imds()
        endpoint.delay = 30
        start = time.monotonic()
        self.refusal("imeout")
        self.assertLess(time.monotonic() - start, 20)

    def test_credentials_that_have_expired_already_are_refused(self):
        self.imds(lifetime=-10)
        self.assertEqual(self.refusal("expired"), "kms-credentials-expired")

    def test_a_source_that_is_not_there_is_an_error_and_not_an_end(self):
        endpoint = self.imds()
        endpoint.close()
        self.refusal("connect")
        self.assertIsNone(self.process.poll())


class Container(CredentialsCase):
    def test_a_full_uri_with_a_token_file_that_is_replaced(self):
        endpoint = self.endpoint(lifetime=2)
        token = self.dir / "token"
        token.write_text("first\n")
        endpoint.authorization = "first"
        self.serve("container", AWS_CONTAINER_CREDENTIALS_FULL_URI=endpoint.url + "/v1/credentials",
                   AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(token))
        self.assertEqual(self.ask()["AccountId"], "123456789012")
        token.write_text("second")
        endpoint.authorization = "second"
        time.sleep(2.2)
        self.assertGreater(self.ask()["AccessKeyId"], "ASIAEXAMPLE000000001")
        self.assert_log_is_clean()

    def test_a_token_of_the_environment(self):
        endpoint = self.endpoint()
        endpoint.authorization = "Basic abc="
        self.serve("container", AWS_CONTAINER_CREDENTIALS_FULL_URI=endpoint.url + "/v1/credentials",
                   AWS_CONTAINER_AUTHORIZATION_TOKEN="Basic abc=")
        self.ask()

    def test_where_plain_http_may_not_go_nothing_is_sent(self):
        for url in ("http://example.com/", "http://169.254.170.20/", "http://10.0.0.1/x",
                    "http://127.0.0.1.example.com/", "http://localhost@10.0.0.1/",
                    "http://localhost.example.com/", "ftp://127.0.0.1/", "file:///etc/passwd",
                    "http://[::2]/", "http://[::1", "http://[::1]evil.example/", "http://[",
                    "http://user@127.0.0.1/", "http://127.evil.example/", "http:///", "http://",
                    "http://127.0.0.1\\@10.0.0.1/", "http://128.0.0.1/"):
            with self.subTest(url=url):
                process = self.serve("container", AWS_CONTAINER_CREDENTIALS_FULL_URI=url)
                self.refusal("expected https")
                self.stop(process)

    def test_a_token_that_would_add_a_header_is_refused(self):
        endpoint = self.endpoint()
        self.serve("container", AWS_CONTAINER_CREDENTIALS_FULL_URI=endpoint.url + "/v1/credentials",
                   AWS_CONTAINER_AUTHORIZATION_TOKEN="a\r\nX-Other: b")
        self.refusal("one line")
        self.assertEqual(endpoint.requests, [])

    def test_nothing_configured_names_the_variables(self):
        self.serve("container")
        self.refusal("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


class WebIdentity(CredentialsCase):
    def web(self, endpoint, **more):
        path = self.dir / "identity"
        path.write_text(endpoint.identity_token + "\n")
        env = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(path), "AWS_ENDPOINT_URL_STS": endpoint.url,
               "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/a+b=c"}
        self.serve("web-identity", **{**env, **more})
        return path

    def test_the_token_is_exchanged_at_sts(self):
        endpoint = self.endpoint()
        self.web(endpoint)
        found = self.ask()
        self.assertEqual(found["AccessKeyId"], "ASIAEXAMPLE000000001")
        self.assertEqual(found["Token"], "session-token")
        self.assertIn("Expiration", found)
        self.assert_log_is_clean()

    def test_a_refusal_of_sts_is_reported_by_its_status(self):
        endpoint = self.endpoint()
        self.web(endpoint).write_text("another.token.altogether")
        self.refusal("403")

    def test_sts_is_not_asked_in_the_clear_beyond_this_machine(self):
        self.web(self.endpoint(), AWS_ENDPOINT_URL_STS="http://sts.example.com")
        self.refusal("expected https")

    def test_an_answer_without_its_elements_is_refused(self):
        endpoint = self.endpoint()
        self.web(endpoint, AWS_ENDPOINT_URL_STS=endpoint.url + "/a/b")
        endpoint.body_override = "<AccessKeyId>A</AccessKeyId>"
        self.refusal("SecretAccessKey")


class Auto(CredentialsCase):
    def test_the_first_source_that_is_configured_is_used(self):
        endpoint = self.endpoint()
        imds = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint.url}
        process = self.serve("auto", **imds)
        self.assertTrue(self.ask()["AccessKeyId"].startswith("ASIAEXAMPLE"))
        self.stop(process)
        self.serve("auto", AWS_ACCESS_KEY_ID="AKIA1", AWS_SECRET_ACCESS_KEY="x", **imds)
        self.assertEqual(self.ask()["AccessKeyId"], "AKIA1")

    def test_a_shared_credentials_file_goes_before_the_instances_role(self):
        endpoint = self.endpoint()
        (self.dir / ".aws").mkdir()
        (self.dir / ".aws/credentials").write_text(
            "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s3cr3t\n")
        self.serve("auto", AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint.url)
        self.assertEqual(self.ask()["AccessKeyId"], "AKIAFILE")
        self.assertEqual(endpoint.requests, [])

    def test_a_configured_source_that_fails_is_not_passed_over(self):
        endpoint = self.endpoint()
        self.serve("auto", AWS_ACCESS_KEY_ID="AKIA1",
                   AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint.url)
        self.refusal("AWS_SECRET_ACCESS_KEY")
        self.assertEqual(endpoint.requests, [])


if __name__ == "__main__":
    unittest.main()
