// In place of the page's own: nothing is heard, and a microphone opens when the test allows it.

export class Player {
  heard = 0;
  playing = false;

  play() {
    this.playing = true;
    stage.played += 1;
  }

  stop() {
    if (this.playing) this.heard += 0.5;
    this.playing = false;
    return this.heard;
  }
}

export const samplesOf = async () => new Float32Array(4);

export class Recorder {
  static start() {
    return new Promise((resolve) => {
      const microphone = { open: false };
      stage.microphones.push(microphone);
      microphone.allow = () => {
        microphone.open = true;
        resolve({
          async stop() {
            microphone.open = false;
            return new Blob(["sound"], { type: "audio/wav" });
          },
        });
      };
    });
  }
}
