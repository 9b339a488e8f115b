// Asks a server through the openai package; prints what came as JSON. Arguments: address, recording.
const fs = require("node:fs");
const OpenAI = require("openai");

async function main([baseURL, path]) {
  const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
  const file = () => fs.createReadStream(path);
  const ask = (options) => client.audio.transcriptions.create({ model: "demo-digits", file: file(), ...options });
  const json = await ask({ language: "en" });
  const words = await ask({ response_format: "verbose_json", timestamp_granularities: ["word", "segment"] });
  const events = [];
  for await (const event of await ask({ stream: true })) events.push(event);
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  const refused = await ask({ model: "whisper-1" }).catch((error) => ({ kind: error.constructor.name, code: error.code }));
  console.log(JSON.stringify({ json, words, events, models, refused }));
}

main(process.argv.slice(2));
