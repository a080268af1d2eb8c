"use strict";
// The page's one form goes to the application. Taken from the prototype: a field named "submit" would hide the method.
HTMLFormElement.prototype.submit.call(document.getElementById("answer"));
