/* asv's buttons are links that lead nowhere: let the keyboard reach and press them. */
(function () {
  'use strict';
  var reachable = 'a.btn:not([tabindex]):not([href]), th[data-sort]:not([tabindex]), .benchmark-container:not([tabindex])';
  function reach() {
    document.querySelectorAll(reachable).forEach(function (element) { element.tabIndex = 0; });
  }
  document.addEventListener('keydown', function (event) {
    var element = event.target;
    if ((event.key === 'Enter' || event.key === ' ') && element.tabIndex === 0 && !element.href && element.click &&
        !/^(INPUT|BUTTON|SELECT|TEXTAREA)$/.test(element.tagName)) {
      event.preventDefault();
      element.click();
    }
  });
  new MutationObserver(reach).observe(document.body, {childList: true, subtree: true});
  reach();
}());
