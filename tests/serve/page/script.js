// What a person does with the page, and what has to come of it.

import { expect, failures, rest, until } from "/static/expect.js";
import { dialogues, recorder } from "/static/parts.js";

const $ = (id) => document.getElementById(id);
const shown = () => [...document.querySelectorAll("#log .turn span")].map((span) => span.textContent);
const kept = (first) => [...stage.kept.values()].find(({ turns }) => turns[0].text === first)?.turns.map(({ text }) => text);
const pressEscape = () => document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
const asked = () => stage.chats.at(-1).messages.map(({ content }) => content);

const drop = (blob) => document.dispatchEvent(Object.assign(new Event("drop"), { dataTransfer: { files: [blob] } }));

async function open(first) {
  [...document.querySelectorAll("#kept button")].find(({ textContent }) => textContent === first).click();
  await until(`${first} is shown`, () => shown()[0] === first);
}

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
  await open("one");
  expect("opened", shown(), ["one", "An"]);
  expect("kept", kept("one"), ["one", "An"]);
  expect("without the unanswered question", kept("three"), ["three", "yes", "four", "no"]);

  // Too many images and recordings are left out, as too many words are.
  stage.refusal = { status: 400, message: "more than 16 images and recordings; send at most 16" };
  await ask("six");
  await until("asked again", () => asked().length === 1);
  expect("without the oldest turns", asked(), ["six"]);
  stage.chats.at(-1).say({ omnictl: { not_said: "the text has: ж" } });
  await until("told", () => $("problem").textContent.includes("the text has: ж"));
  stage.chats.at(-1).end();

  // Of a long conversation the latest turns are asked about, and fewer where these are too much to send.
  const turns = Array.from({ length: 140 }, (_, i) => ({ role: i % 2 ? "assistant" : "user", text: i ? `turn ${i}` : "long" }));
  stage.kept.set(1, { id: 1, turns });
  await hear(await ask("seven"), "last");
  stage.chats.at(-1).end();
  await until("long can be opened", () => $("kept").textContent.includes("long"));
  await open("long");
  await hear(await ask("turn 140"), "turn 141");
  expect("the latest turns", [asked().length, asked()[0]], [65, "turn 76"]);
  stage.chats.at(-1).end();
  stage.refusal = { status: 413, message: "the body is larger than 25 MiB" };
  await ask("turn 142");
  await until("asked with less", () => asked().length === 63);
  stage.chats.at(-1).end();
  const socket = await talk();
  expect("the latest turns are told of", itemsOf(socket).map(([part]) => part.text), Array.from({ length: 64 }, (_, i) => `turn ${i + 78}`));
  await open("one");
  stage.sockets.length = stage.microphones.length = 0;
}

async function photographed() {
  const cameras = [];
  const { mediaDevices } = navigator;
  const before = mediaDevices.getUserMedia;
  mediaDevices.getUserMedia = () => new Promise((allow) => cameras.push(allow));
  const see = async () => {
    $("camera").click();
    $("camera").click();
    cameras.pop()(new MediaStream());
    await until("a viewfinder", () => $("viewfinder").open);
    expect("cameras after Camera twice", cameras.length, 0);
    $("shoot").click();
  };
  await see();
  await until("told of no image", () => $("problem").textContent.includes("shown nothing yet"));
  for (const side of ["videoWidth", "videoHeight"]) Object.defineProperty($("video"), side, { value: 4 });
  await see();
  await until("an image", () => $("attached").children.length);
  await hear(await ask("Where is it?"), "There.");
  expect("a photograph", asked().at(-1)[0].image_url.url.slice(0, 15), "data:image/jpeg");
  stage.chats.at(-1).end();
  mediaDevices.getUserMedia = before;
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
  await until("written down", () => shown().includes("words"));
  await hear(stage.chats.at(-1), "Silence.");
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
const itemsOf = (socket) => socket.sent.filter(({ type }) => type === "conversation.item.create").map(({ item }) => item.content);

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
  const told = itemsOf(socket).map((parts) => parts.map(({ type, text }) => text ?? type).join());
  expect("what the page knows is told", told, ["one", "An", "seven", "last", "input_image,Where is it?", "There.", "words", "Silence."]);
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
  stage.microphones.length = 0;
}

async function spokenAndWritten() {
  drop(new Blob(["image"], { type: "image/png" }));
  drop(new Blob(["sound"], { type: "audio/wav" }));
  $("record").click();
  await until("a microphone", () => stage.microphones.length);
  const microphone = stage.microphones.pop();
  microphone.allow();
  await until("it records", () => $("record").getAttribute("aria-pressed") === "true");
  const socket = await talk();
  expect("one microphone is open", [microphone.open, $("record").disabled], [false, true]);
  expect("the image is shown, the recordings wait", [itemsOf(socket)[0][0].type, $("attached").children.length], ["input_image", 2]);

  const chats = stage.chats.length;
  begin(socket, 5);
  socket.tell("response.output_audio_transcript.delta", { item_id: "i5", delta: "Hm" });
  socket.tell("response.output_audio.delta", { item_id: "i5", delta: "AAAA" });
  $("text").value = "eight";
  $("send").click();
  await until("asked", () => sent(socket).type === "response.create");
  expect("asked by voice", socket.sent.slice(-4, -1).map(({ type }) => type), ["conversation.item.truncate", "response.cancel", "conversation.item.create"]);
  expect("with its recordings", itemsOf(socket).at(-1).map(({ type }) => type), ["input_audio", "input_audio", "input_text"]);
  begin(socket, 6);
  socket.tell("response.output_audio_transcript.delta", { item_id: "i6", delta: "Yes" });
  socket.tell("response.done", { response: { id: "r6", status: "completed" } });
  drop(new Blob(["image"], { type: "image/png" }));
  await until("shown at once", () => sent(socket).item?.content[0].type === "input_image");
  expect("not by HTTP", stage.chats.length, chats);
  expect("in turn", shown(), ["", "Hm", "eight", "Yes", ""]);
  socket.close();
  await until("Ask aloud is back", () => !$("record").disabled);
}

try {
  await recorder();
  await dialogues();
  await written();
  await photographed();
  await recorded();
  await spoken();
  await spokenAndWritten();
} catch (error) {
  failures.push(`${error.message}; the page says: ${$("problem").textContent}`);
}
document.body.append(Object.assign(document.createElement("pre"), { id: "failures", textContent: JSON.stringify(failures) }));
stage.fetch.call(window, "/ended");
