// A tool-using agent whose API keys are unsealed just in time: see examples/python/tool_agent.py.
//
//     node tool_agent.mjs SOCKET store weather < the-api-key
//     node tool_agent.mjs SOCKET call weather "Zurich"
import crypto from "node:crypto";

import { Claviger, DEFAULT_SOCKET } from "./claviger.mjs";

const [socketPath = DEFAULT_SOCKET, command, tool, question] = process.argv.slice(2);
const claviger = new Claviger(socketPath);

async function readAll(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** The key is in this process's memory for the length of one use. */
async function withApiKey(name, use) {
  const { data } = await claviger.getState(`tools/${name}`);
  try {
    return await use(data);
  } finally {
    data.fill(0);
  }
}

try {
  if (command === "store") {
    const key = (await readAll(process.stdin)).toString().trim();
    const { generation } = await claviger.putState(`tools/${tool}`, key);
    console.log(`stored the key of ${tool} as generation ${generation}`);
  } else if (command === "call") {
    // Where a real tool would be called over TLS: here the key signs the request.
    const signature = await withApiKey(tool, (key) =>
      crypto.createHmac("sha256", key).update(question).digest("hex"));
    console.log(`${tool}(${question}) signed ${signature}`);
  } else {
    throw new Error("expected store or call");
  }
} catch (problem) {
  console.error(`tool_agent: ${problem.message}`);
  process.exitCode = 1;
} finally {
  claviger.close();
}
