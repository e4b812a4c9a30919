// The page goes to the login page when its session ends in another window or on another device.
let source = null;

function listen() {
  if (document.hidden || source !== null) {
    return;
  }
  source = new EventSource("/events");
  source.addEventListener("ended", () => location.assign("/login?note=ended"));
  source.addEventListener("error", () => {
    if (source !== null && source.readyState === EventSource.CLOSED) {
      source = null; // until the page is shown again
    }
  });
}

// A hidden page does not listen: browsers allow few connections to a server.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && source !== null) {
    source.close();
    source = null;
  }
  listen();
});
addEventListener("pageshow", listen); // also from the back/forward cache
