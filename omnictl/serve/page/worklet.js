// Hands on what the microphone hears, 40 ms at a time, at the rate that it is told: in between the device's samples.

class RecorderProcessor extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.step = sampleRate / rate; // samples of the device for one that is handed on
    this.last = 0; // of the device, before those that come
    this.at = 1; // where the next one is, counted from there
    this.held = new Float32Array(0.04 * rate);
    this.filled = 0;
  }

  process([input]) {
    const samples = input[0] ?? [];
    for (; this.at < samples.length; this.at += this.step) {
      const before = Math.floor(this.at);
      const from = before ? samples[before - 1] : this.last;
      this.hand(from + (this.at - before) * (samples[before] - from));
    }
    if (samples.length) {
      this.at -= samples.length;
      this.last = samples[samples.length - 1];
    }
    return true;
  }

  hand(sample) {
    this.held[this.filled++] = sample;
    if (this.filled < this.held.length) return;
    this.port.postMessage(this.held.slice());
    this.filled = 0;
  }
}

registerProcessor("recorder", RecorderProcessor);
