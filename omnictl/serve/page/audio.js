// The microphone, as WAV; and speech that is played while it comes.

export const RATE = 24000; // samples a second, of what is recorded and what is played

// Butterworth's of order 8, in dB, as Web Audio wants them: the recorded rate holds nothing above its half.
const LOWPASS_QS = [0.5098, 0.6013, 0.9, 2.5629].map((q) => 20 * Math.log10(q));
const PASSED = 0.45; // of a rate: what passes

export class Recorder {
  // Records until `stop`, which gives a WAV file. `onChunk` gets each piece, Float32Array, as it comes.
  // Without `keep`, they are forgotten then.
  static async start(onChunk = () => {}, { keep = true } = {}) {
    const recorder = new Recorder(await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true } }));
    try {
      await recorder.listen(onChunk, keep);
    } catch (error) {
      await recorder.close();
      throw error;
    }
    return recorder;
  }

  constructor(stream) {
    this.stream = stream;
    this.context = null;
    this.chunks = [];
  }

  async listen(onChunk, keep) {
    const context = (this.context = new AudioContext()); // at the device's rate: Firefox connects a microphone to no other
    await context.audioWorklet.addModule("/static/worklet.js");
    const frequency = PASSED * Math.min(RATE, context.sampleRate);
    const filters = LOWPASS_QS.map((Q) => new BiquadFilterNode(context, { type: "lowpass", frequency, Q }));
    const node = new AudioWorkletNode(context, "recorder", { numberOfInputs: 1, numberOfOutputs: 0, processorOptions: { rate: RATE } });
    node.port.onmessage = ({ data }) => {
      if (keep) this.chunks.push(data);
      onChunk(data);
    };
    [...filters, node].reduce((source, next) => source.connect(next), context.createMediaStreamSource(this.stream));
  }

  async close() {
    for (const track of this.stream.getTracks()) track.stop();
    await this.context?.close();
  }

  async stop() {
    await this.close();
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

// The samples of a recording at RATE, its channels as one.
export async function samplesOf(blob) {
  const audio = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
  const channels = Array.from({ length: audio.numberOfChannels }, (_, number) => audio.getChannelData(number));
  return channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
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
