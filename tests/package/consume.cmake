# cmake -DPROJECT=... -DBINARY=... -DGENERATOR=... -DOPTIONS=-Da=b|... -DREFUSED=... -DPRINTS=...
#       -DWITHOUT=... -P consume.cmake
# Configures PROJECT afresh, builds it, and runs the program consumer where it makes one. The folders
# of the program WITHOUT are searched by nobody.
string(REPLACE "|" ";" OPTIONS "${OPTIONS}")
if(WITHOUT)
  string(REPLACE ":" ";" path "$ENV{PATH}")
  set(hidden /usr/local/cuda/bin)
  foreach(folder IN LISTS path)
    if(EXISTS "${folder}/${WITHOUT}")
      list(APPEND hidden "${folder}")
    endif()
  endforeach()
  list(REMOVE_ITEM hidden /usr/bin /bin)  # without these there is no linker either
  list(REMOVE_ITEM path ${hidden})
  string(REPLACE ";" ":" path "${path}")
  set(ENV{PATH} "${path}")
  foreach(variable IN ITEMS CUDACXX CUDA_HOME CUDA_PATH)
    unset(ENV{${variable}})
  endforeach()
  list(JOIN hidden "\\;" hidden)
  list(APPEND OPTIONS "-DCMAKE_IGNORE_PATH=${hidden}")
endif()
file(REMOVE_RECURSE "${BINARY}")
execute_process(COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${PROJECT}" -B "${BINARY}"
                        ${OPTIONS}
                RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
string(REGEX REPLACE "[ \n]+" " " words "${output}")  # CMake wraps its messages

foreach(message IN ITEMS "${REFUSED}" "${PRINTS}")
  string(FIND "${words}" "${message}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "configuring should say: ${message}\nbut says:\n${output}")
  endif()
endforeach()
if(REFUSED AND status EQUAL 0)
  message(FATAL_ERROR "configuring should fail, but says:\n${output}")
elseif(REFUSED)
  return()
elseif(NOT status EQUAL 0)
  message(FATAL_ERROR "configuring failed:\n${output}")
endif()

execute_process(COMMAND "${CMAKE_COMMAND}" --build "${BINARY}" COMMAND_ERROR_IS_FATAL ANY)
if(EXISTS "${BINARY}/consumer")
  execute_process(COMMAND "${BINARY}/consumer" COMMAND_ERROR_IS_FATAL ANY)
endif()
