// Hands on what the microphone hears, 40 ms at a time.

class RecorderProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Float32Array(960);
    this.filled = 0;
  }

  process([input]) {
    for (const sample of input[0] ?? []) {
      this.held[this.filled++] = sample;
      if (this.filled === this.held.length) {
        this.port.postMessage(this.held.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", RecorderProcessor);
