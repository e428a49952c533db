// A wallet that signs with a derived key that it never sees: see examples/python/wallet.py.
//
//     node wallet.mjs SOCKET "10 to bob"
import crypto from "node:crypto";

import { Claviger, DEFAULT_SOCKET } from "./claviger.mjs";

const KEY = { path: "wallet/main", purpose: "payments", algorithm: "ed25519" };
const [socketPath = DEFAULT_SOCKET, order = "10 to bob"] = process.argv.slice(2);

const claviger = new Claviger(socketPath);
try {
  const { signature, public_key: publicKey } = await claviger.sign(KEY, order);
  const key = crypto.createPublicKey({
    format: "jwk",
    key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(publicKey, "hex").toString("base64url") },
  });
  const holds = crypto.verify(null, Buffer.from(order), key, Buffer.from(signature, "hex"));
  console.log(JSON.stringify({ order, publicKey, signature, holds }));
  process.exitCode = holds ? 0 : 1;
} finally {
  claviger.close();
}
