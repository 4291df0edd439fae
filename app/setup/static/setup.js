// While the App is being installed on GitHub's page: look again, and show what is new.
"use strict";

const wait = document.getElementById("wait");
const known = wait.dataset.mark;

async function look() {
  try {
    const answer = await fetch(wait.dataset.url, { cache: "no-store" });
    if (answer.ok && (await answer.json()).mark !== known) {
      location.reload();
      return;
    }
  } catch {
    // The setup has ended, or GitHub is away: the next look may tell.
  }
  setTimeout(look, 2000);
}

setTimeout(look, 2000);
