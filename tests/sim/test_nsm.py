"""claviger-nsm over its socket: registers, limits, errors, and documents that verify."""
import hashlib
import os
import socket
import struct
import sys
import unittest

sys.path.insert(0, os.path.join(os.environ["CLAVIGER_SOURCE"], "tests", "lib"))
from claviger_stack import Stack, pcr  # noqa: E402


def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")
    raise ValueError(n)


def encode(value):
    """CBOR of None, integers, bytes, text and maps."""
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(5, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())


def decode(data, at=0):
    """The CBOR item at `at` and where it ends: what the NSM answers, nothing more."""
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    if major == 7:
        return {20: False, 21: True, 22: None}[info], at
    if info == 31 and major == 5:
        result = {}
        while data[at] != 0xff:
            key, at = decode(data, at)
            result[key], at = decode(data, at)
        return result, at + 1
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    n = int.from_bytes(data[at:at + size], "big") if size else info
    at += size
    if major == 0:
        return n, at
    if major == 1:
        return -1 - n, at
    if major in (2, 3):
        piece = data[at:at + n]
        return (piece if major == 2 else piece.decode()), at + n
    if major == 4:
        items = []
        for _ in range(n):
            item, at = decode(data, at)
            items.append(item)
        return items, at
    result = {}
    for _ in range(n):
        key, at = decode(data, at)
        result[key], at = decode(data, at)
    return result, at


class Module:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)

    def exchange(self, request):
        self.socket.sendall(struct.pack(">I", len(request)) + request)
        n, = struct.unpack(">I", self.take(4))
        answer, end = decode(data := self.take(n))
        assert end == len(data)
        return answer

    def take(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise ConnectionError("the module closed")
            data += piece
        return data

    def ask(self, request):
        return self.exchange(encode(request))

    def document(self, **fields):
        answer = self.ask({"Attestation": fields})
        return answer["Attestation"]["document"]


def payload_of(document):
    envelope, _ = decode(document)
    return decode(envelope[2])[0]


class SoftwareNsm(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
        self.addCleanup(self.stack.close)
        self.stack.run("claviger-nsm", "init", str(self.stack.nsm_dir))

    def boot(self, *arguments, pcrs=None):
        self.stack.nsm_arguments = list(arguments)
        self.stack.start_nsm(pcrs=pcrs)
        module = Module(str(self.stack.dir / "nsm.sock"))
        self.addCleanup(module.socket.close)
        return module

    def verify(self, document, *arguments):
        path = self.stack.dir / "document.bin"
        path.write_bytes(document)
        root = (self.stack.nsm_dir / "root.sha256").read_text().strip()
        return self.stack.run("claviger", "verify", "--root-sha256", root, *arguments, str(path),
                              check=False)

    def test_describes_itself_as_the_real_module_does(self):
        answer = self.boot().ask("DescribeNSM")["DescribeNSM"]
        self.assertEqual(answer["max_pcrs"], 32)
        self.assertEqual(answer["locked_pcrs"], list(range(16)))
        self.assertEqual(answer["digest"], "SHA384")
        self.assertRegex(answer["module_id"], r"^i-[0-9a-f]+-enc[0-9a-f]+$")

    def test_boot_values_come_from_the_file_and_are_locked(self):
        module = self.boot(pcrs={"0": pcr("zero"), "15": pcr("fifteen")})
        for index, text in ((0, "zero"), (15, "fifteen")):
            answer = module.ask({"DescribePCR": {"index": index}})["DescribePCR"]
            self.assertEqual(answer, {"lock": True, "data": bytes.fromhex(pcr(text))})
        answer = module.ask({"DescribePCR": {"index": 16}})["DescribePCR"]
        self.assertEqual(answer, {"lock": False, "data": bytes(48)})

    def test_pcr3_and_pcr4_measure_role_and_instance(self):
        role = "arn:aws:iam::123456789012:role/agent"
        module = self.boot("--role-arn", role, pcrs={})
        instance = module.ask("DescribeNSM")["DescribeNSM"]["module_id"].split("-enc")[0]
        for index, text in ((3, role), (4, instance)):
            data = module.ask({"DescribePCR": {"index": index}})["DescribePCR"]["data"]
            self.assertEqual(data, hashlib.sha384(bytes(48) + text.encode()).digest())

    def test_extend_is_the_hash_of_old_and_new(self):
        module = self.boot()
        value = bytes(48)
        for data in (b"", b"x", bytes(1000)):
            value = hashlib.sha384(value + data).digest()
            answer = module.ask({"ExtendPCR": {"index": 17, "data": data}})
            self.assertEqual(answer, {"ExtendPCR": {"data": value}})

    def test_a_locked_register_stays_as_it_is(self):
        module = self.boot()
        self.assertEqual(module.ask({"LockPCR": {"index": 20}}), "LockPCR")
        self.assertEqual(module.ask({"LockPCR": {"index": 20}}), {"Error": "ReadOnlyIndex"})
        self.assertEqual(module.ask({"ExtendPCR": {"index": 20, "data": b"x"}}),
                         {"Error": "ReadOnlyIndex"})
        self.assertEqual(module.ask({"LockPCRs": {"range": 24}}), "LockPCRs")
        locked = module.ask("DescribeNSM")["DescribeNSM"]["locked_pcrs"]
        self.assertEqual(locked, list(range(24)))

    def test_each_bad_request_has_its_error(self):
        module = self.boot()
        for request, error in (
                ({"DescribePCR": {"index": 32}}, "InvalidIndex"),
                ({"ExtendPCR": {"index": 99, "data": b""}}, "InvalidIndex"),
                ({"LockPCR": {"index": 65535}}, "InvalidIndex"),
                ({"LockPCRs": {"range": 33}}, "InvalidIndex"),
                ({"DescribePCR": {"index": b"x"}}, "InvalidArgument"),
                ({"DescribePCR": {}}, "InvalidArgument"),
                ({"DescribePCR": {"index": 0, "more": 1}}, "InvalidArgument"),
                ({"ExtendPCR": {"index": 17}}, "InvalidArgument"),
                ({"ExtendPCR": {"index": 17, "data": "text"}}, "InvalidArgument"),
                ({"ExtendPCR": {"index": 17, "data": None}}, "InvalidArgument"),
                ("DescribePCR", "InvalidArgument"),
                ({"DescribeNSM": {}}, "InvalidArgument"),
                ("Nonsense", "InvalidOperation"),
                ({"Nonsense": {}}, "InvalidOperation"),
                (7, "InvalidArgument"),
                ({"Attestation": {"nonce": "text"}}, "InvalidArgument"),
                ({"Attestation": {"nonce": bytes(513)}}, "InputTooLarge"),
                ({"Attestation": {"user_data": bytes(513)}}, "InputTooLarge"),
                ({"Attestation": {"public_key": bytes(1025)}}, "InputTooLarge")):
            with self.subTest(request=str(request)[:60]):
                self.assertEqual(module.ask(request), {"Error": error})
        for raw in (b"\xa1", b"\xff", encode("DescribeNSM") + b"\x00"):
            self.assertEqual(module.exchange(raw), {"Error": "InvalidArgument"})

    def test_a_request_beyond_the_drivers_limit_ends_the_connection(self):
        module = self.boot()
        module.socket.sendall(struct.pack(">I", 0x1001))
        with self.assertRaises(ConnectionError):
            module.take(1)
        self.assertIn("DescribeNSM", self.boot().ask("DescribeNSM"))

    def test_random_bytes_are_256_and_differ(self):
        module = self.boot()
        first, second = (module.ask("GetRandom")["GetRandom"]["random"] for _ in range(2))
        self.assertEqual(len(first), 256)
        self.assertNotEqual(first, second)

    def test_a_document_verifies_and_carries_what_was_asked(self):
        module = self.boot(pcrs={"0": pcr("zero")})
        for arguments in ((), ("--indefinite",)):
            module = self.boot(*arguments, pcrs={"0": pcr("zero")})
            document = module.document(nonce=b"n" * 512, user_data=b"", public_key=b"k" * 1024)
            done = self.verify(document, "--nonce", (b"n" * 512).hex(), "--pcr",
                               f"0={pcr('zero')}")
            self.assertEqual(done.returncode, 0, done.stderr)
            fields = payload_of(document)
            self.assertEqual(fields["public_key"], b"k" * 1024)
            self.assertEqual(fields["user_data"], b"")
            self.assertEqual(fields["digest"], "SHA384")
            self.assertEqual(len(fields["cabundle"]), 4)
            self.assertLessEqual(max(map(len, fields["cabundle"])), 1024)
        self.assertIsNone(payload_of(self.boot().document())["nonce"])

    def test_only_locked_registers_appear_in_a_document(self):
        module = self.boot()
        module.ask({"ExtendPCR": {"index": 16, "data": b"policy"}})
        self.assertNotIn(16, payload_of(module.document())["pcrs"])
        module.ask({"LockPCR": {"index": 16}})
        self.assertEqual(payload_of(module.document())["pcrs"][16],
                         hashlib.sha384(bytes(48) + b"policy").digest())

    def test_a_new_process_is_a_new_boot_under_the_same_root(self):
        module = self.boot()
        module.ask({"ExtendPCR": {"index": 16, "data": b"x"}})
        module.ask({"LockPCR": {"index": 16}})
        module = self.boot()
        answer = module.ask({"DescribePCR": {"index": 16}})["DescribePCR"]
        self.assertEqual(answer, {"lock": False, "data": bytes(48)})
        self.assertEqual(self.verify(module.document()).returncode, 0)

    def test_debug_mode_zeroes_the_image(self):
        module = self.boot("--debug-mode", pcrs={str(i): pcr(str(i)) for i in range(4)})
        pcrs = payload_of(module.document())["pcrs"]
        self.assertEqual([pcrs[i] == bytes(48) for i in range(4)], [True, True, True, False])

    def test_a_wrong_clock_shows_in_the_document(self):
        document = self.boot("--clock-offset", "3600").document()
        self.assertEqual(self.verify(document, "--at", "doc").returncode, 0)
        self.assertEqual(self.verify(document, "--at", "now").returncode, 6)

    def test_init_does_not_overwrite_a_root(self):
        before = (self.stack.nsm_dir / "root.key").read_bytes()
        done = self.stack.run("claviger-nsm", "init", str(self.stack.nsm_dir), check=False)
        self.assertEqual(done.returncode, 10)
        self.assertEqual((self.stack.nsm_dir / "root.key").read_bytes(), before)

    def test_bad_register_files_are_named_errors(self):
        for text in ("", "[]", '{"16": "%s"}' % pcr("x"), '{"0": "abc"}', '{"x": "y"}', '{"0": 1}',
                     '{"0": "%s", "0": "%s"}' % (pcr("x"), pcr("y"))):
            boot = self.stack.dir / "bad.json"
            boot.write_text(text)
            done = self.stack.run("claviger-nsm", "serve", str(self.stack.nsm_dir), "--pcrs",
                                  str(boot), "--listen", self.stack.address("bad"), check=False)
            self.assertEqual(done.returncode, 3, (text, done.stderr))
            self.assertIn("bad.json", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
