/** The state of the device over time, and a lock that keeps its screen on. */

export class State {
  #clock;
  #battery;
  #hidden = document.hidden;
  #release = () => {};
  samples = [];

  /** @param {() => number} clock seconds since the benchmark began */
  constructor(clock) {
    this.#clock = clock;
  }

  async begin() {
    this.#battery = await navigator.getBattery?.().catch(() => undefined);
    document.addEventListener('visibilitychange', this.#note);
    const lock = await navigator.wakeLock?.request('screen').catch(() => undefined);
    this.#release = () => lock?.release();
    this.sample();
  }

  /** Records the state since the previous sample. */
  sample() {
    this.samples.push({
      at_s: this.#clock(),
      on_battery: this.#battery ? !this.#battery.charging : null,
      in_background: this.#hidden,
    });
    this.#hidden = document.hidden;
  }

  end() {
    this.sample();
    document.removeEventListener('visibilitychange', this.#note);
    this.#release();
  }

  #note = () => {
    this.#hidden ||= document.hidden;
  };
}
