// What a person does with the page, and what has to come of it.

const failures = [];
const $ = (id) => document.getElementById(id);

function expect(what, actual, expected) {
  const [found, wanted] = [actual, expected].map((value) => JSON.stringify(value));
  if (found !== wanted) failures.push(`${what}: ${found} instead of ${wanted}`);
}

async function until(what, condition) {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`never: ${what}`);
}

const rest = () => new Promise((resolve) => setTimeout(resolve, 30)); // for what must not happen
const shown = () => [...document.querySelectorAll("#log .turn span")].map((span) => span.textContent);
const kept = (first) => [...stage.kept.values()].find(({ turns }) => turns[0].text === first)?.turns.map(({ text }) => text);
const pressEscape = () => document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
const asked = () => stage.chats.at(-1).messages.map(({ content }) => content);

async function ask(text) {
  const before = stage.chats.length;
  $("text").value = text;
  $("send").click();
  await until(`asked ${text}`, () => stage.chats.length > before);
  return stage.chats.at(-1);
}

async function hear(chat, content) {
  chat.say({ content });
  await until(`shown ${content}`, () => shown().includes(content));
}

async function written() {
  await until("connected", () => $("model").textContent === "model");

  // An answer that another conversation interrupts stays in its own.
  await hear(await ask("one"), "An");
  $("new").click();
  await until("one is kept", () => kept("one"));
  expect("interrupted by New", kept("one"), ["one", "An"]);
  expect("a new log", shown(), []);

  // A question right after another: what was answered so far stands between them.
  await ask("two");
  await ask("three");
  expect("an unanswered question is forgotten", asked(), ["three"]);
  await hear(stage.chats.at(-1), "yes");
  await ask("four");
  expect("an interrupted answer stands behind its question", asked(), ["three", "yes", "four"]);
  await hear(stage.chats.at(-1), "no");
  stage.chats.at(-1).end();
  await until("four is kept", () => kept("three")?.length === 4);

  // A kept conversation that is opened meanwhile stays as it was.
  await ask("five");
  [...document.querySelectorAll("#kept button")].find(({ textContent }) => textContent === "one").click();
  await until("one is shown", () => shown()[0] === "one");
  expect("opened", shown(), ["one", "An"]);
  expect("kept", kept("one"), ["one", "An"]);
  expect("without the unanswered question", kept("three"), ["three", "yes", "four", "no"]);

  // Too many images and recordings are left out, as too many words are.
  stage.refusal = "more than 16 images and recordings; send at most 16";
  await ask("six");
  await until("asked again", () => asked().length === 1);
  expect("without the oldest turns", asked(), ["six"]);
  stage.chats.at(-1).say({ omnictl: { not_said: "the text has: ж" } });
  await until("told", () => $("problem").textContent.includes("the text has: ж"));
  stage.chats.at(-1).end();
}

async function recorded() {
  $("record").click();
  $("record").click();
  await until("a microphone", () => stage.microphones.length);
  await rest();
  expect("microphones after Ask aloud twice", stage.microphones.length, 1);
  stage.microphones[0].allow();
  await until("it records", () => $("record").getAttribute("aria-pressed") === "true");
  const before = stage.chats.length;
  $("record").click();
  await until("asked aloud", () => stage.chats.length > before);
  expect("the microphone is closed", stage.microphones[0].open, false);
  expect("a recording", asked().at(-1)[0].type, "input_audio");
  stage.chats.at(-1).end();
  stage.microphones.length = 0;
}

async function talk() {
  $("talk").click();
  await until("a microphone", () => stage.microphones.length);
  stage.microphones.at(-1).allow();
  await until("it talks", () => $("talk").getAttribute("aria-pressed") === "true");
  return stage.sockets.at(-1);
}

function begin(socket, number) {
  socket.tell("response.output_item.added", { response_id: `r${number}`, item: { id: `i${number}` } });
}

const sent = (socket) => socket.sent.at(-1);

async function spoken() {
  $("talk").click();
  $("talk").click();
  await until("a microphone", () => stage.microphones.length);
  await rest();
  expect("sockets after Talk twice", stage.sockets.length, 1);
  expect("the key", stage.sockets[0].protocols[1], "openai-insecure-api-key.a%3D%2F%2B%2C%28b%29");
  stage.sockets[0].close();
  await rest();
  stage.microphones[0].allow();
  await until("told", () => $("problem").textContent.includes("No conversation by voice"));
  expect("closed", [stage.microphones[0].open, $("talk").getAttribute("aria-pressed")], [false, "false"]);
  stage.microphones.length = 0;

  const socket = await talk();
  begin(socket, 1);
  expect("Stop is offered", $("stop").hidden, false);
  pressEscape();
  expect("before the first audio", sent(socket), { type: "response.cancel", response_id: "r1" });
  socket.tell("response.output_audio.delta", { item_id: "i1", delta: "AAAA" });
  socket.tell("error", { error: { code: "response_cancel_not_active", message: "no reply" } });
  expect("nothing is heard of it", [stage.played, $("problem").textContent], [0, ""]);

  begin(socket, 2);
  socket.tell("response.output_audio.delta", { item_id: "i2", delta: "AAAA" });
  $("stop").click();
  expect("half a second was heard", [sent(socket).type, sent(socket).item_id, sent(socket).audio_end_ms], ["conversation.item.truncate", "i2", 500]);
  begin(socket, 3);
  const before = socket.sent.length;
  socket.tell("input_audio_buffer.speech_started", {});
  socket.tell("response.output_audio.delta", { item_id: "i3", delta: "AAAA" });
  expect("speech stops it by itself", [socket.sent.length, stage.played], [before, 1]);

  socket.tell("input_audio_buffer.committed", { item_id: "u4" });
  socket.tell("conversation.item.input_audio_transcription.completed", { item_id: "u4", transcript: "seven" });
  begin(socket, 4);
  socket.tell("response.output_audio_transcript.delta", { item_id: "i4", delta: "Hi" });
  $("new").click();
  await until("a new log", () => !shown().length);
  expect("New ends it", [socket.readyState, stage.microphones[0].open, $("talk").getAttribute("aria-pressed")], [3, false, "false"]);
  expect("what was said is kept", kept("one").slice(-2), ["seven", "Hi"]);
}

try {
  await written();
  await recorded();
  await spoken();
} catch (error) {
  failures.push(`${error.message}; the page says: ${$("problem").textContent}`);
}
document.body.append(Object.assign(document.createElement("pre"), { id: "failures", textContent: JSON.stringify(failures) }));
stage.fetch.call(window, "/ended");
