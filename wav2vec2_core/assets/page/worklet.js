// In the audio thread: samples of the microphone as whole numbers, a tenth of a second at a time.

class Samples extends AudioWorkletProcessor {
  #block = new Int16Array(Math.round(sampleRate / 10));
  #held = 0;

  process([input]) {
    const channel = input[0] ?? [];
    for (let i = 0; i < channel.length; i += 1) {
      this.#block[this.#held] = Math.max(-1, Math.min(1, channel[i])) * 32767;
      this.#held += 1;
      if (this.#held === this.#block.length) {
        this.port.postMessage(this.#block.slice());
        this.#held = 0;
      }
    }
    return true;
  }
}

registerProcessor("samples", Samples);
