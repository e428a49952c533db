// dstack's SDK as an agent uses it: tests/enclave/test_dstack_sdk.py reads what it prints.
import { DstackClient } from "@phala/dstack-sdk";

const client = new DstackClient(process.argv[2]);
const hex = (bytes) => Buffer.from(bytes).toString("hex");

const key = await client.getKey("wallet/eth", "pay");
console.log(JSON.stringify({
  reachable: await client.isReachable(),
  key: hex(key.key),
  chain: key.signature_chain.length,
  again: hex((await client.getKey("wallet/eth", "pay")).key),
  purpose: hex((await client.getKey("wallet/eth", "other")).key),
  ed25519: hex((await client.getKey("wallet/eth", "pay", "ed25519")).key),
  quote: (await client.getQuote(Buffer.from("hello"))).quote,
  info: await client.info(),
  denied: await client.getQuote(Buffer.alloc(65)).then(() => "", (error) => error.message),
}));
