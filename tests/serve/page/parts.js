// The page's own recorder and its own dialogues, without the page.

import { RATE, Recorder } from "/real/audio.js";
import { save } from "/real/store.js";
import { expect, until } from "/static/expect.js";

// Puts a context without a device in the place of the browser's; gives what it was and which tracks of the microphone still run.
function stand(rate, parts) {
  const found = { running: 1, closed: 0 };
  const stop = () => (found.running -= 1);
  navigator.mediaDevices.getUserMedia = async () => ({ getTracks: () => [{ stop }] });
  window.AudioContext = class extends OfflineAudioContext {
    constructor() {
      super(1, 1.1 * rate, rate);
      found.context = this;
    }

    get audioWorklet() {
      return parts.audioWorklet ?? super.audioWorklet;
    }

    createMediaStreamSource() {
      return parts.createMediaStreamSource(this);
    }

    async close() {
      found.closed += 1;
    }
  };
  return found;
}

const fail = async (found) => {
  const message = await Recorder.start().then(() => "none", (error) => error.message);
  return [message, found.running, found.closed];
};

// A second of a tone as it is recorded.
async function record(frequency, rate) {
  const createMediaStreamSource = (context) => {
    const tone = new OscillatorNode(context, { frequency });
    tone.start();
    return tone;
  };
  const found = stand(rate, { createMediaStreamSource });
  const samples = [];
  await Recorder.start((chunk) => samples.push(...chunk), { keep: false });
  await found.context.startRendering();
  await until("a second is recorded", () => samples.length >= RATE);
  return samples.slice(0, RATE);
}

export async function recorder() {
  const { mediaDevices } = navigator;
  const before = [mediaDevices.getUserMedia, window.AudioContext];
  const audioWorklet = { addModule: () => Promise.reject(new Error("no module")) };
  expect("closed without a worklet", await fail(stand(48000, { audioWorklet })), ["no module", 0, 1]);
  const createMediaStreamSource = () => {
    throw new Error("no source");
  };
  expect("closed without a source", await fail(stand(48000, { createMediaStreamSource })), ["no source", 0, 1]);
  for (const rate of [16000, 24000, 44100, 48000]) {
    const tone = await record(1000, rate);
    const crossings = tone.filter((sample, i) => i && sample >= 0 !== tone[i - 1] >= 0).length;
    const loudness = Math.sqrt(tone.reduce((sum, sample) => sum + sample * sample, 0) / RATE);
    expect(`1 kHz at ${rate} Hz`, [tone.length, Math.abs(crossings - 2000) < 3, Math.abs(loudness - Math.SQRT1_2) < 0.02], [RATE, true, true]);
  }
  for (const rate of [44100, 48000]) {
    const loudest = Math.max(...(await record(15000, rate)).slice(RATE / 10));
    expect(`15 kHz at ${rate} Hz is not heard as something else`, loudest < 0.03, true);
  }
  [mediaDevices.getUserMedia, window.AudioContext] = before;
}

export async function dialogues() {
  const unknown = [{ role: "user", text: "" }, { role: "assistant", text: "What?" }];
  expect("nothing is saved", await save({ turns: unknown }), null);
  const known = [{ role: "user", text: "hi" }, { role: "assistant", text: "Hello." }];
  const saved = await save({ turns: [...unknown, ...known, ...unknown, { role: "user", text: "bye" }] });
  const messages = known.map(({ role, text }) => ({ role, content: text }));
  expect("saved", JSON.parse(await saved.blob.text()), { messages });
}
