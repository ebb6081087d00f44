# cmake -DFILE=... -DINCLUDE=... -DCOMPILERS=a|b -DCHECK=-flag|... -P check.cmake
# The file's first line says what must happen, in every compiler:
#   // error: SENTENCE     it does not compile, and the first error line contains SENTENCE
#   // compiles            it does: the near twin, which shows that nothing else is wrong
# The sentence may go on in further lines of comment, and the last of them may be:
#   // flags: -ffast-math
file(STRINGS "${FILE}" lines ENCODING UTF-8 LIMIT_COUNT 9)
list(POP_FRONT lines expectation)
set(flags "")
foreach(line IN LISTS lines)
  if(line MATCHES "^// flags: (.*)$")
    separate_arguments(flags UNIX_COMMAND "${CMAKE_MATCH_1}")
  elseif(line MATCHES "^// (.*)$")
    string(APPEND expectation " ${CMAKE_MATCH_1}")
  else()
    break()
  endif()
endforeach()
if(expectation MATCHES "^// error: (.+)$")
  set(sentence "${CMAKE_MATCH_1}")
elseif(NOT expectation STREQUAL "// compiles")
  message(FATAL_ERROR "the first line must be '// error: SENTENCE' or '// compiles'")
endif()

string(REPLACE "|" ";" COMPILERS "${COMPILERS}")
string(REPLACE "|" ";" CHECK "${CHECK}")
foreach(compiler IN LISTS COMPILERS)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E env LC_ALL=C "${compiler}" -std=c++20 ${CHECK}
                          ${flags} "-I${INCLUDE}" "${FILE}"
                  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX MATCH "[^\n]*error: [^\n]*" first_error "${output}")
  if(NOT DEFINED sentence)
    if(NOT status EQUAL 0)
      message(SEND_ERROR "${compiler}: should compile, but:\n${output}")
    endif()
  elseif(status EQUAL 0)
    message(SEND_ERROR "${compiler}: compiles, but should say: ${sentence}")
  else()
    string(FIND "${first_error}" "${sentence}" at)
    if(at EQUAL -1)
      message(SEND_ERROR "${compiler}: should say: ${sentence}\nbut says first: ${first_error}\n"
                         "all of it:\n${output}")
    else()
      message(STATUS "${first_error}")
    endif()
  endif()
endforeach()
