// Pictures are asked about a few at a time, in order. While the server is busy or gone, all of them wait.

// work(item): async, never rejects. Returns { add, first, drop, hold, release, busy }.
export function makeQueue(work, few = 4) {
  let waiting = [];
  let running = 0;
  let until = 0; // ms since 1970; Infinity while the server is gone
  let timer = null;

  function next() {
    const left = until - Date.now();
    if (left > 0) {
      clearTimeout(timer);
      if (Number.isFinite(left)) timer = setTimeout(next, left);
      return;
    }
    while (running < few && waiting.length) {
      running += 1;
      work(waiting.shift()).finally(() => {
        running -= 1;
        next();
      });
    }
  }

  return {
    add(items) {
      waiting.push(...items);
      next();
    },
    first(item) {
      waiting.unshift(item);
      next();
    },
    drop(keep) {
      waiting = waiting.filter(keep);
    },
    hold(ms) {
      until = Math.max(until, Date.now() + ms);
      next();
    },
    release() {
      until = 0;
      next();
    },
  };
}
