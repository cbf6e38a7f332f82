// The page that the service worker shows where the server is not reached: goes on when it is back.
// In the head and no module, so that the chosen appearance is there before anything is painted.

const EVERY = 5000;

try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  if (localStorage.getItem("contrast") === "more") document.documentElement.dataset.contrast = "more";
} catch {
  // The system's appearance, then.
}

async function look() {
  if (!navigator.onLine || document.hidden) return;
  try {
    await fetch(location.pathname, { method: "HEAD", redirect: "manual", cache: "no-store" });
    location.reload();
  } catch {
    // Not yet.
  }
}

addEventListener("DOMContentLoaded", () => {
  document.querySelector("button")?.addEventListener("click", () => location.reload());
});
addEventListener("online", look);
document.addEventListener("visibilitychange", look);
setInterval(look, EVERY);
