// A chat agent that seals its memory after each turn and resumes after a crash: see
// examples/python/chat_agent.py.
//
//     node chat_agent.mjs SOCKET < what-people-say
import readline from "node:readline";

import { Claviger, DEFAULT_SOCKET, Problem } from "./claviger.mjs";

const NAME = "conversation-node";
const claviger = new Claviger(process.argv[2] ?? DEFAULT_SOCKET);

async function resume() {
  try {
    const { data, generation } = await claviger.getState(NAME);
    return { history: JSON.parse(data), generation };
  } catch (problem) {
    if (problem instanceof Problem && problem.code === "state-not-found") {
      return { history: [], generation: 0 };
    }
    throw problem;
  }
}

let { history, generation } = await resume();
console.log(`resumed after ${history.length} turns`);
for await (const message of readline.createInterface({ input: process.stdin })) {
  const answer = `turn ${history.length + 1}: ${message}`;
  history.push({ message, answer });
  ({ generation } = await claviger.putState(NAME, JSON.stringify(history), { generation }));
  console.log(answer);
}
claviger.close();
