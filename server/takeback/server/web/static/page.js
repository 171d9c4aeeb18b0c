"use strict";

// Looks every few seconds whether anything has happened since this page was shown. Nothing here decides or sends anything:
// without it the page works as well, and is loaded anew by hand.
(() => {
  const { state, position, live } = document.body.dataset;
  const news = document.getElementById("news");
  const seconds = 3;
  let missed = 0;

  const say = (words, link) => {
    if (news.dataset.said === words) return;
    news.dataset.said = words;
    news.textContent = words + " ";
    if (link) {
      const again = document.createElement("a");
      again.href = location.href;
      again.textContent = link;
      news.append(again);
    }
  };

  // Somebody is reading with the keyboard, or has marked something: then nothing is pulled away from under them.
  const busy = () => {
    const focus = document.activeElement;
    const at = focus !== null && focus !== document.body && focus.id !== "main";
    return at || String(getSelection()) !== "";
  };

  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(state, { cache: "no-store" });
        if (answer.status === 401) {
          say("This browser is not known to the page any more.", "Load it anew");
          return;
        }
        if (answer.ok) {
          missed = 0;
          const now = String((await answer.json()).position);
          if (now !== position) {
            if (live && !busy()) {
              location.reload();
              return;
            }
            say("Something has happened since this was shown.", "Show how it is now");
          }
        }
      } catch {
        missed += 1;
        if (missed > 1) say("The page is closed. Run takeback web to open it again.", "");
      }
    }
    setTimeout(look, 1000 * seconds);
  };

  if (state && news) setTimeout(look, 1000 * seconds);
})();
