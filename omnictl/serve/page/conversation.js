// A conversation by voice over /v1/realtime: the microphone goes up, the answer comes down, and speaking interrupts it.

import { Recorder, samplesOf } from "/static/audio.js";
import { bytesOf, dataUrlOf } from "/static/client.js";

// A key as a token of HTTP, which a subprotocol has to be.
const quote = (key) => encodeURIComponent(key).replace(/[()]/g, (letter) => `%${letter.charCodeAt(0).toString(16)}`);

const pcmOf = (samples) => Int16Array.from(samples, (sample) => Math.max(-1, Math.min(1, sample)) * 32767);

async function partOf({ kind, blob }) {
  if (kind === "image") return { type: "input_image", image_url: await dataUrlOf(blob) };
  const url = await dataUrlOf(new Blob([pcmOf(await samplesOf(blob))]));
  return { type: "input_audio", audio: url.slice(url.indexOf(",") + 1) };
}

// What was said and shown, as an item; in place of a recording, its words, where they are known.
export async function itemOf({ role, text, heard, media }) {
  const content = await Promise.all((media ?? []).filter(({ kind }) => kind === "image" || !heard).map(partOf));
  const words = text || heard;
  if (words) content.push({ type: role === "user" ? "input_text" : "output_text", text: words });
  return { type: "message", role, content };
}

export class VoiceConversation {
  // Tells `on` of what happens: asked(item), heard(item, text), began(), text(delta), done(times), stopped(),
  // problem(message), closed().
  static async start({ key, player, settings, history, on }) {
    const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/realtime?model=omnictl`;
    const socket = new WebSocket(address, ["realtime", ...(key ? [`openai-insecure-api-key.${quote(key)}`] : [])]);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error("the server does not take voice conversations now"));
    });
    const conversation = new VoiceConversation(socket, player, on);
    conversation.send({ type: "session.update", session: settings });
    for (const item of history) conversation.add(item);
    try {
      conversation.recorder = await Recorder.start((samples) => conversation.hear(samples), { keep: false });
      if (conversation.ended) {
        await conversation.recorder.stop();
        throw new Error("the server has ended it");
      }
    } catch (error) {
      socket.close();
      throw error;
    }
    return conversation;
  }

  constructor(socket, player, on) {
    this.socket = socket;
    this.on = on;
    this.player = player;
    this.reply = null; // {id, item, times, heardBefore, spoken, done} of the answer that is coming, or that was the last
    this.turnEnded = 0;
    socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    socket.onclose = () => this.end();
  }

  send(event) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(event));
  }

  hear(samples) {
    this.send({ type: "input_audio_buffer.append", audio: btoa(String.fromCharCode(...new Uint8Array(pcmOf(samples).buffer))) });
  }

  add(item) {
    this.send({ type: "conversation.item.create", item });
  }

  // Ask in writing; the answer to it takes the place of one that is under way.
  ask(item) {
    this.send({ type: "response.cancel" }); // also of one that has not been told of yet
    this.add(item);
    this.turnEnded = performance.now();
    this.send({ type: "response.create" });
  }

  take(event) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        this.silence(); // the server cancels the answer
        break;
      case "input_audio_buffer.speech_stopped":
        this.turnEnded = performance.now();
        break;
      case "conversation.item.input_audio_transcription.delta":
        this.on.hearing(event.delta);
        break;
      case "input_audio_buffer.cleared":
        this.on.misheard();
        break;
      case "conversation.item.input_audio_transcription.completed":
        this.on.heard(event.item_id, event.transcript);
        break;
      case "input_audio_buffer.committed":
        this.on.asked(event.item_id);
        break;
      case "response.output_item.added":
        this.reply = { id: event.response_id, item: event.item.id, times: {}, heardBefore: this.player.heard };
        this.on.began();
        break;
      case "response.output_text.delta":
      case "response.output_audio_transcript.delta":
        if (event.item_id !== this.reply?.item) break; // it was stopped meanwhile
        this.time("first word");
        this.on.text(event.delta);
        break;
      case "response.output_audio.delta":
        if (event.item_id !== this.reply?.item) break;
        this.time("first audio");
        this.reply.spoken = true;
        this.player.play(bytesOf(event.delta));
        break;
      case "response.done":
        if (event.response.id !== this.reply?.id) break;
        this.reply.done = true;
        if (event.response.status === "cancelled") this.on.stopped();
        else this.on.done(this.reply.times);
        break;
      case "error":
        if (event.error.code !== "response_cancel_not_active") this.on.problem(event.error.message); // else it had just ended
    }
  }

  time(part) {
    this.reply.times[part] ??= `${Math.round(performance.now() - this.turnEnded)} ms`;
  }

  // Stop the answer.
  interrupt() {
    const reply = this.silence();
    if (reply && !reply.spoken) this.send({ type: "response.cancel", response_id: reply.id });
  }

  // Be silent, and tell the server how much was heard of a spoken answer, which also cancels it. Gives what was silenced, if anything.
  silence() {
    const reply = this.reply;
    if (!reply || (reply.done && !this.player.playing)) return null;
    this.reply = null;
    const end = Math.max(0, Math.round(1000 * (this.player.stop() - reply.heardBefore)));
    if (reply.spoken) this.send({ type: "conversation.item.truncate", item_id: reply.item, content_index: 0, audio_end_ms: end });
    this.on.stopped();
    return reply;
  }

  async end() {
    if (this.ended) return;
    this.ended = true;
    this.player.stop();
    this.socket.close();
    await this.recorder?.stop();
    this.on.closed();
  }
}
