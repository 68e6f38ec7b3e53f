// Plays calls with openai-node. Each line of standard input is one call as JSON (`Call` in calls.py); each line of standard
// output is what a developer sees of it (`Seen`). It lives until the input ends, so that no connection closes by its death.
import { createInterface } from "node:readline";

import OpenAI from "openai";

async function play(call) {
  const client = new OpenAI({ baseURL: call.base_url, apiKey: call.api_key, maxRetries: call.max_retries });
  const seen = { answer: null, chunks: [], items: [], request_id: null, error: null };
  try {
    await ask(client, call, seen);
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    seen.error = told(error);
  }
  return seen;
}

async function ask(client, call, seen) {
  const names = call.method.split(".");
  const name = names.pop();
  const resource = names.reduce((found, part) => found[part], client);
  const words = call.named === null ? [] : [call.named];
  const asked = resource[name](...words, ...(call.body === null ? [] : [call.body]));
  if (call.method === "chat.completions.stream") {
    seen.answer = await asked.finalChatCompletion(); // the SDK's own accumulator
    return;
  }
  const { data, request_id } = await asked.withResponse();
  seen.request_id = request_id;
  if (call.body?.stream) {
    for await (const chunk of data) {
      seen.chunks.push(chunk);
      if (seen.chunks.length === call.leave_after) data.controller.abort();
    }
  } else if (call.method.endsWith(".list")) {
    for await (const item of data) seen.items.push(item);
  } else {
    seen.answer = data;
    if (data._request_id !== request_id) throw new Error("the answer's _request_id is not the header's");
  }
}

function told(error) {
  return {
    class: error.constructor.name,
    status: error.status ?? null,
    code: error.code ?? null,
    type: error.type ?? null,
    param: error.param ?? null,
    message: error.error?.message ?? null,
    request_id: error.requestID ?? null,
    retry_after: error.headers?.get("retry-after") ?? null,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await play(JSON.parse(line)))}\n`);
}
