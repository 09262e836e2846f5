// The microphone, as WAV; and speech that is played while it comes.

export const RATE = 24000; // samples a second, of what is recorded and what is played

export class Recorder {
  // Records until `stop`, which gives a WAV file. `onChunk` gets each piece, Float32Array, as it comes.
  // Without `keep`, they are forgotten then.
  static async start(onChunk = () => {}, { keep = true } = {}) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true } });
    const context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule("/static/worklet.js");
    const node = new AudioWorkletNode(context, "recorder", { numberOfInputs: 1, numberOfOutputs: 0 });
    context.createMediaStreamSource(stream).connect(node);
    return new Recorder(stream, context, node, onChunk, keep);
  }

  constructor(stream, context, node, onChunk, keep) {
    this.stream = stream;
    this.context = context;
    this.chunks = [];
    node.port.onmessage = ({ data }) => {
      if (keep) this.chunks.push(data);
      onChunk(data);
    };
  }

  async stop() {
    for (const track of this.stream.getTracks()) track.stop();
    await this.context.close();
    return wavOf(this.chunks);
  }
}

export class Player {
  // Plays PCM of 16 bits, one piece behind the other.
  constructor() {
    this.context = new AudioContext({ sampleRate: RATE });
    this.sources = new Map(); // those that are to be heard, with when they begin
    this.next = 0;
    this.heard = 0; // seconds of pieces that have been heard to their end
  }

  play(bytes) {
    const pcm = new Int16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1);
    if (!pcm.length) return;
    const buffer = this.context.createBuffer(1, pcm.length, RATE);
    const channel = buffer.getChannelData(0);
    for (let i = 0; i < pcm.length; i++) channel[i] = pcm[i] / 32768;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    this.next = Math.max(this.next, this.context.currentTime + 0.02);
    source.start(this.next);
    this.next += buffer.duration;
    this.sources.set(source, this.next - buffer.duration);
    source.onended = () => {
      this.sources.delete(source);
      this.heard += buffer.duration;
    };
  }

  get playing() {
    return this.sources.size > 0;
  }

  // Be silent; gives the seconds that were heard of everything.
  stop() {
    for (const [source, begin] of this.sources) {
      this.heard += Math.max(0, Math.min(source.buffer.duration, this.context.currentTime - begin));
      source.onended = null;
      source.stop();
    }
    this.sources.clear();
    this.next = 0;
    return this.heard;
  }
}

export function wavOf(chunks) {
  const samples = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * samples));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples, true);
  let at = 44;
  for (const chunk of chunks) {
    for (const sample of chunk) {
      view.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
      at += 2;
    }
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}
